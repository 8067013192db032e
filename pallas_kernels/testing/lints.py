"""What a compiled kernel must not do; findings are sentences."""

from collections.abc import Mapping, Sequence

from pallas_kernels.testing import bundles, hlo, sass

# How far static figures may move before somebody must look.
TOLERANCE = 0.1
# A wgmma that waits for each product has one WARPGROUP.ARRIVE and one
# WARPGROUP.DEPBAR an HGMMA; a pipelined one has them once a product of tiles,
# which is two HGMMA or more.
_GROUPS_PER_HGMMA = 1.0


def spills(kernel: sass.Kernel, allowed: int = 0) -> list[str]:
  """Registers that do not fit and go through memory.

  Args:
    kernel: as compiled.
    allowed: bytes of stack.
  """
  moves = kernel.count("LDL", "STL")
  if not moves and not kernel.stack or 0 < kernel.stack <= allowed:
    return []
  return [
    f"{kernel.name} spills: {moves} LDL/STL, {kernel.stack} bytes of stack, "
    f"{kernel.registers} registers"
  ]


def tensor_cores(kernel: sass.Kernel, wanted: str | None) -> list[str]:
  """Products by other instructions than `wanted`.

  Args:
    kernel: a kernel with products of bfloat16 or float16 matrices.
    wanted: 'HGMMA' (Hopper), 'HMMA' (Ampere), or None for no opinion.
  """
  if wanted is None:
    return []
  found = {name: kernel.count(name) for name in ("HGMMA", "HMMA")}
  other = "HMMA" if wanted == "HGMMA" else "HGMMA"
  if found[wanted] and not found[other]:
    return []
  return [
    f"{kernel.name} should multiply by {wanted} alone; it has "
    f"{found['HGMMA']} HGMMA and {found['HMMA']} HMMA"
  ]


def serialised(kernel: sass.Kernel) -> list[str]:
  """Hopper's products that wait for each other."""
  products, groups = kernel.count("HGMMA"), kernel.count("WARPGROUP")
  if groups <= _GROUPS_PER_HGMMA * products:
    return []
  return [
    f"{kernel.name} runs its wgmma one by one: {groups} WARPGROUP for "
    f"{products} HGMMA"
  ]


def gpu(kernel: sass.Kernel, wanted: str | None, stack: int = 0) -> list[str]:
  """All findings; `wanted` as in `tensor_cores`, `stack` as in `spills`."""
  return [
    *spills(kernel, stack),
    *tensor_cores(kernel, wanted),
    *serialised(kernel),
  ]


def figures(kernel: sass.Kernel | bundles.Kernel) -> dict[str, int]:
  """The figures of a kernel that are held within stored bounds."""
  if isinstance(kernel, sass.Kernel):
    return dict(registers=kernel.registers, instructions=kernel.instructions)
  return dict(bundles=kernel.bundles, spills=kernel.spills)


def moved(
  name: str, now: Mapping[str, int], stored: Mapping[str, int]
) -> list[str]:
  """Figures more than 10% away from the stored ones.

  Better is a finding too: it asks to be written down, so that it lasts.
  """
  found = []
  for key, value in now.items():
    old = stored[key]
    # A handful either way is the compiler's mood, not a change.
    slack = max(TOLERANCE * old, 8 if key != "registers" else 4)
    if abs(value - old) > slack:
      word = "more" if value > old else "fewer: write it down"
      found.append(f"{name} has {value} {key}, stored {old} ({word})")
  return found


def collectives(text: str, inside: Sequence[str]) -> list[str]:
  """Collectives that come from operations of a name, as 'flash_attention'.

  Args:
    text: XLA's text of the optimized program.
    inside: parts of the path of a jax operation.
  """
  return [
    f"{found.kind} {found.instruction} belongs to {found.place}"
    for found in hlo.collectives(text)
    if any(name in found.place for name in inside)
  ]
