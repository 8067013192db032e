"""Schedules of TPU kernels: what their instruction bundles do.

A TPU core issues one bundle a cycle at best; libtpu tells for each bundle
which units it uses. A kernel's bundles are its code once through: one step of
its grid where nothing loops inside, each way of a branch counted.
"""

import dataclasses

from pallas_kernels.testing import aot, hlo


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A TPU kernel.

  Attributes:
    name: the `name` that was given to `pallas_call`.
    bundles: length of its code.
    used: unit -> slots used, such as 'MXU', 'VALU', 'VLOAD', 'VSTORE:SPILL'.
    slots: unit -> slots of one bundle.
  """

  name: str
  bundles: int
  used: dict[str, int]
  slots: dict[str, int]

  def share(self, unit: str) -> float:
    """Slots of a unit that are used, of all that there are."""
    return self.used[unit] / max(self.bundles * self.slots[unit], 1)

  @property
  def spills(self) -> int:
    """Vector registers stored because too few are left."""
    return self.used.get("VSTORE:SPILL", 0)


def report(program: aot.Program) -> list[Kernel]:
  """The Pallas kernels of a compiled program, in its text's order.

  Raises:
    RuntimeError: libtpu wrote no schedule, as where it was loaded before
      `aot` could ask for it.
  """
  found = []
  for kernel in hlo.kernels(program.hlo):
    table = program.schedules.get(kernel.instruction)
    if table is None:
      raise RuntimeError(
        f"libtpu wrote no schedule of {kernel.instruction}; it was loaded "
        "before pallas_kernels.testing.aot, or LIBTPU_INIT_ARGS forbids it"
      )
    found.append(_parse(kernel.name, table))
  return found


def _parse(name: str, table: str) -> Kernel:
  """Reads a title, units, their slots, a title, and a line per bundle."""
  lines = [line for line in table.splitlines() if line.strip()]
  units = [unit.strip() for unit in lines[1].split(",")]
  slots = [int(number) for number in lines[2].split()]
  rows = [[int(number) for number in line.split()] for line in lines[4:]]
  used = [sum(column) for column in zip(*rows)] or [0] * len(units)
  return Kernel(
    name,
    bundles=len(rows),
    used=dict(zip(units, used, strict=True)),
    slots=dict(zip(units, slots, strict=True)),
  )
