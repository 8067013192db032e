"""Machine code of NVIDIA GPUs: what a compiled program's kernels consist of.

Needs the programs of nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm, from
their wheels or on PATH; no GPU.
"""

import collections
import dataclasses
import pathlib
import re
import shutil
import struct
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator

from jax.experimental import serialize_executable

from pallas_kernels.testing import _riegeli, aot, hlo

_ELF, _EM_CUDA = b"\x7fELF\x02\x01", 190
# Address, opcode with modifiers, operands.
_INSTRUCTION = re.compile(
  r"/\*([0-9a-f]{4,})\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);"
)
_FUNCTION = re.compile(r"^\s*Function : (\S+)$", re.M)
_USAGE = re.compile(
  r"Function (\S+?):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)"
)


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A GPU kernel.

  Attributes:
    name: its symbol.
    registers: of a thread.
    stack: bytes of a thread's stack, where spilled registers go.
    shared: bytes of shared memory that are known when it is compiled.
    opcodes: opcode with modifiers, as 'HGMMA.64x64x16.F32.BF16' -> how often
      it stands in the code (not how often it runs).
    loops: the same of each innermost loop, once through.
  """

  name: str
  registers: int
  stack: int
  shared: int
  opcodes: collections.Counter
  loops: tuple[collections.Counter, ...] = ()

  @property
  def instructions(self) -> int:
    """Instructions of the code, without the padding at its end."""
    return self.opcodes.total() - self.count("NOP")

  def count(self, *opcodes: str) -> int:
    """Instructions whose opcode is one of these, whatever its modifiers."""
    return count(self.opcodes, *opcodes)


def count(found: collections.Counter, *opcodes: str) -> int:
  """Those of `found` whose opcode is one of these, whatever its modifiers."""
  return sum(
    number
    for name, number in found.items()
    if name.partition(".")[0] in opcodes
  )


def available() -> str | None:
  """Why nothing can be disassembled here, or None where it can."""
  missing = [n for n in ("cuobjdump", "nvdisasm") if _tool(n) is None]
  return f"no disassembler: {', '.join(missing)}" if missing else None


def report(program: aot.Program) -> list[Kernel]:
  """The Pallas kernels of a compiled program, each once.

  Raises:
    RuntimeError: no code was found for one of them.
  """
  names = {kernel.name for kernel in hlo.kernels(program.hlo)}

  def plain(symbol):
    symbol = symbol.removesuffix("_mosaic_gpu_kernel")
    # Of several kernels with one name XLA numbers all but the first.
    return symbol if symbol in names else re.sub(r"_+\d+$", "", symbol)

  found = {}
  for cubin in _cubins(serialize_executable.serialize(program.compiled)[0]):
    symbols = re.findall(rb"\0\.text\.(\w+)", cubin)
    if any(plain(symbol.decode()) in names for symbol in symbols):
      for kernel in disassemble(cubin):
        found.setdefault(repr(kernel), kernel)
  lost = names - {plain(kernel.name) for kernel in found.values()}
  if lost:
    raise RuntimeError(f"no code was found for {', '.join(sorted(lost))}")
  return list(found.values())


def disassemble(cubin: bytes) -> list[Kernel]:
  """The kernels of a cubin."""
  reason = available()
  if reason:
    raise RuntimeError(reason)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "kernels.cubin")
    path.write_bytes(cubin)
    text = subprocess.run(
      [_tool("cuobjdump"), "-sass", "-res-usage", str(path)],
      check=True,
      capture_output=True,
      text=True,
    ).stdout
  usage = {name: rest for name, *rest in _USAGE.findall(text)}
  # [before, name, code, name, code, ...]
  parts = _FUNCTION.split(text)
  return [
    _kernel(name, code, *map(int, usage[name]))
    for name, code in zip(parts[1::2], parts[2::2], strict=True)
  ]


def _kernel(name, code, registers, stack, shared, local) -> Kernel:
  instructions = [
    (int(address, 16), opcode, operands)
    for address, opcode, operands in _INSTRUCTION.findall(code)
  ]
  # A loop is a jump back; at the end of the code a jump to itself is a trap.
  spans = []
  for address, opcode, operands in instructions:
    goal = re.search(r"0x([0-9a-f]+)\s*$", operands)
    if opcode.startswith("BRA") and goal and int(goal[1], 16) < address:
      spans.append((int(goal[1], 16), address))
  inside = lambda a, b: a != b and b[0] <= a[0] and a[1] <= b[1]
  innermost = [b for b in spans if not any(inside(a, b) for a in spans)]
  return Kernel(
    name,
    registers=registers,
    stack=stack + local,
    shared=shared,
    opcodes=collections.Counter(opcode for _, opcode, _ in instructions),
    loops=tuple(
      collections.Counter(
        opcode for address, opcode, _ in instructions if low <= address <= high
      )
      for low, high in innermost
    ),
  )


def _cubins(blob: bytes) -> Iterator[bytes]:
  """ELF files for CUDA inside of a serialized program."""
  for value in _riegeli.values(blob):
    start = value.find(_ELF)
    while start >= 0:
      size = _elf_size(value[start : start + 64])
      if size:
        yield value[start : start + size]
      start = value.find(_ELF, start + 1)


def _elf_size(header: bytes) -> int:
  """Bytes of the ELF file that begins so; 0 where it is not for CUDA."""
  if len(header) < 64 or struct.unpack_from("<H", header, 18)[0] != _EM_CUDA:
    return 0
  programs, sections = struct.unpack_from("<QQ", header, 32)
  program_size, program_count, section_size, section_count = struct.unpack_from(
    "<4H", header, 54
  )
  return max(
    programs + program_size * program_count,
    sections + section_size * section_count,
  )


def _tool(name: str) -> str | None:
  site = pathlib.Path(sysconfig.get_paths()["purelib"], "nvidia")
  return next(
    (str(path) for path in sorted(site.glob(f"*/bin/{name}"))),
    shutil.which(name),
  )
