"""Stored static figures of all cases: compares, or writes them anew.

`python -m pallas_kernels.testing.bounds --write` after a change that is meant.
"""

import argparse
import json
import pathlib
import re

import jax

from pallas_kernels.testing import aot, bundles, cases, lints, sass, targets

FILE = pathlib.Path(__file__).parents[2] / "tests" / "aot" / "bounds.json"

Figures = dict[str, dict[str, int]]


def version() -> str:
  """The jax that figures hold for, without the patch level: '0.10'."""
  return re.match(r"\d+\.\d+", jax.__version__)[0]


def load(path=FILE) -> dict:
  """{version: {target: {case: {kernel: figures}}}}."""
  if not path.exists():
    return {}
  return json.loads(path.read_text(encoding="utf-8"))


def stored(target: str, case: str, path=FILE) -> Figures | None:
  """Kernel -> figures, as written for this jax; None where never written."""
  return load(path).get(version(), {}).get(target, {}).get(case)


def measure(program: aot.Program) -> Figures:
  """Kernel -> figures of a program; of equal names the second gets a '#2'."""
  tpu = targets.get(program.target).platform == "tpu"
  found: Figures = {}
  for kernel in (bundles if tpu else sass).report(program):
    found[unique(kernel.name, found)] = lints.figures(kernel)
  return found


def unique(name: str, taken) -> str:
  """`name`, or with a number where it is taken."""
  number = 1
  while (candidate := name if number == 1 else f"{name}#{number}") in taken:
    number += 1
  return candidate


def compare(now: Figures, before: Figures) -> list[str]:
  """What moved; also kernels that came or went."""
  found = [f"{name} is new" for name in now if name not in before]
  found += [f"{name} is gone" for name in before if name not in now]
  for name in now.keys() & before.keys():
    found += lints.moved(name, now[name], before[name])
  return found


def main(argv=None) -> int:
  """Compiles every case; prints what moved, or writes it."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--write", action="store_true")
  parser.add_argument("--file", type=pathlib.Path, default=FILE)
  parser.add_argument("--target", nargs="*", choices=sorted(targets.TARGETS))
  parser.add_argument("--case", default="", help="part of the name of a case")
  options = parser.parse_args(argv)
  table, moved = load(options.file), []
  here, known = table.setdefault(version(), {}), cases.everything()
  for of_target in here.values():  # cases that are no more
    for name in of_target.keys() - known.keys():
      del of_target[name]
  for name, target in cases.runs():
    if options.case not in name or target not in (options.target or [target]):
      continue
    if reason := aot.available(target):
      print(f"{target}/{name}: left out, {reason}")
      continue
    now = measure(aot.compile_for(target, *known[name].build()))
    of_target = here.setdefault(target, {})
    findings = compare(now, of_target.get(name, {}))
    moved += [f"{target}/{name}: {finding}" for finding in findings]
    if findings:  # small moves leave the file as it is
      of_target[name] = now
    if options.write:
      _save(table, options.file)
  print("\n".join(moved) or "nothing moved")
  return 1 if moved and not options.write else 0


def _save(table, path) -> None:
  text = json.dumps(table, indent=1, sort_keys=True)
  path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
  raise SystemExit(main())
