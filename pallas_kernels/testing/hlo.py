"""What stands in XLA's text of an optimized program."""

import dataclasses
import re

# Custom calls that Pallas' backends lower to.
_KERNEL_CALLS = ("tpu_custom_call", "__gpu$xla.gpu.triton", "mosaic_gpu_v2")
# What kernels are called by in jax's program: `pl.pallas_call`, `pl.kernel`.
_PRIMITIVES = ("pallas_call", "mpmd_map")
_COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-broadcast",
  "collective-permute",
  "ragged-all-to-all",
  "reduce-scatter",
)
_INSTRUCTION = re.compile(
  r"^\s*(?:ROOT )?%(?P<name>[\w.<>-]+) = .*?[ )](?P<op>[a-z][a-z0-9-]*)\("
)


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A Pallas kernel in a program.

  Attributes:
    instruction: name of its HLO instruction.
    name: the `name` that was given to `pallas_call`, or where it stands.
    call: name of the custom call, which tells Pallas' backend.
    operands: text of its line up to the compiled body, with shapes.
  """

  instruction: str
  name: str
  call: str
  operands: str


@dataclasses.dataclass(frozen=True)
class Collective:
  """An instruction that moves data between devices.

  Attributes:
    kind: such as 'all-reduce'; asynchronous pairs count once.
    instruction: name of its HLO instruction.
    place: path of the jax operation that it comes from, '' where unknown.
  """

  kind: str
  instruction: str
  place: str


def kernels(text: str) -> list[Kernel]:
  """The Pallas kernels of a program, in the text's order."""
  found = []
  for line in text.splitlines():
    call = re.search(r'custom_call_target="([^"]+)"', line)
    if call is None or call[1] not in _KERNEL_CALLS:
      continue
    instruction = _INSTRUCTION.match(line)["name"]
    found.append(
      Kernel(
        instruction,
        _kernel_name(_place(line)) or instruction.partition(".")[0],
        call[1],
        line.partition(", backend_config=")[0].strip(),
      )
    )
  return found


def collectives(text: str) -> list[Collective]:
  """The collectives of a program, in the text's order."""
  found = []
  for line in text.splitlines():
    match = _INSTRUCTION.match(line)
    if match is None:
      continue
    kind = match["op"].removesuffix("-start")
    if kind in _COLLECTIVES:
      found.append(Collective(kind, match["name"], _place(line)))
  return found


def _place(line: str) -> str:
  match = re.search(r'op_name="([^"]*)"', line)
  return match[1] if match else ""


def _kernel_name(place: str) -> str:
  """'f' of 'jit(step)/transpose(jvp(f))/pallas_call'."""
  before, _, call = place.rpartition("/")
  words = re.findall(r"\w+", before.rpartition("/")[2])
  return words[-1] if call in _PRIMITIVES and words else ""
