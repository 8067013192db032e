"""Static figures of every case as a Markdown table.

`python -m pallas_kernels.testing.static` compiles the kernels for devices
that are not there. These are counts of compiled code, not times.
"""

import argparse
import sys

import jax

from pallas_kernels.testing import aot, bounds, bundles, cases, sass, targets

_GPU_HEAD = (
  "device kind | case | kernel | registers | spills | instructions | "
  "loop instructions a thread (HGMMA/HMMA, MUFU in them) | HGMMA | HMMA | "
  "accessed MB"
)
_TPU_HEAD = (
  "device kind | case | kernel | bundles | MXU | spilled stores | "
  "spill share of store slots | accessed MB"
)


def rows(name: str, target: str) -> list[list[str]]:
  """Rows of a case on a target, a cell a column."""
  case = cases.everything()[name]
  program = aot.compile_for(target, *case.build())
  moved = megabytes(program)
  found = []
  if targets.get(target).platform == "cuda":
    for kernel in sass.report(program):
      found.append([kernel.name, *_gpu(kernel), moved])
  else:
    taken = {}
    for kernel in bundles.report(program):
      unique = bounds.unique(kernel.name, taken)
      taken[unique] = kernel
      found.append([unique, *_tpu(kernel), moved])
  return [[targets.get(target).kind, name, *cells] for cells in found]


def megabytes(program: aot.Program) -> str:
  """What the whole program reads and writes, by XLA's own count."""
  costs = program.compiled.cost_analysis() or {}
  count = costs.get("bytes accessed")
  return "" if count is None else f"{count / 1e6:.1f}"


def table(head: str, body: list[list[str]]) -> str:
  """A Markdown table."""
  columns = head.split(" | ")
  lines = [columns, ["---"] * len(columns), *body]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gpu(kernel: sass.Kernel) -> list[str]:
  loops = ", ".join(
    f"{loop.total()} ({sass.count(loop, 'HGMMA', 'HMMA')}, "
    f"{sass.count(loop, 'MUFU')})"
    for loop in kernel.loops
    if sass.count(loop, "HGMMA", "HMMA")
  )
  return [
    str(kernel.registers),
    str(kernel.count("LDL", "STL")),
    str(kernel.instructions),
    loops or "none",
    str(kernel.count("HGMMA")),
    str(kernel.count("HMMA")),
  ]


def _tpu(kernel: bundles.Kernel) -> list[str]:
  return [
    str(kernel.bundles),
    f"{kernel.share('MXU'):.0%}",
    str(kernel.spills),
    f"{kernel.share('VSTORE:SPILL'):.0%}",
  ]


def main(argv=None) -> int:
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--target", nargs="*", choices=sorted(targets.TARGETS))
  parser.add_argument("--case", default="", help="part of the name of a case")
  options = parser.parse_args(argv)
  found = {"cuda": [], "tpu": []}
  for name, target in cases.runs():
    if options.case not in name or target not in (options.target or [target]):
      continue
    if reason := aot.available(target):
      print(f"left out {name}: {reason}", file=sys.stderr)
      continue
    found[targets.get(target).platform] += rows(name, target)
  print(f"Static figures, compiled with jax {jax.__version__}; not times.\n")
  for platform, head in (("cuda", _GPU_HEAD), ("tpu", _TPU_HEAD)):
    if found[platform]:
      print(table(head, found[platform]) + "\n")
  return 0


if __name__ == "__main__":
  raise SystemExit(main())
