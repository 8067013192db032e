"""Finds tile sizes for a kind of device and writes them into its table.

  python -m pallas_kernels.tune --op=flash_attention --device=h200 \\
      --head-dim=64 --length=512 --segments

On the device itself tiles are timed, beside the reference; elsewhere they are
compiled for it (see `testing.aot`) and ranked by static figures. Entries say
which it was, and only what was timed is ever chosen by default.
"""

import argparse
import dataclasses
import datetime
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import jax

from pallas_kernels import _dispatch, _platform, _problems, _spaces
from pallas_kernels.testing import aot, bundles, lints, sass, targets

_KERNELS = {"gpu": "triton", "tpu": "mosaic_tpu"}
_WARM, _RUNS = 3, 20
_FAST_MEMORY = 163 << 10  # of a device that `targets` does not know


@dataclasses.dataclass(frozen=True)
class Tried:
  """One choice of tiles.

  Attributes:
    blocks: tile sizes by name, as plain data.
    cost: the smaller the better; infinite where it does not work.
    note: why it does not work, or what the cost counts.
  """

  blocks: Mapping
  cost: float
  note: str = ""


def search(
  problem: _problems.Problem,
  cost: Callable,
  *,
  static: bool = False,
  limit: int | None = None,
) -> list[list[Tried]]:
  """Tries the tiles of each kernel, the other kernels' left at their best.

  Args:
    problem: what is computed.
    cost: (problem, blocks, group) -> `Tried`.
    static: leave out choices whose effect only a clock shows.
    limit: at most so many choices a kernel.

  Returns:
    What was tried for each group of choices, best first; the last group's
    best is the best of all.

  Raises:
    ValueError: no tile of a kernel works.
  """
  best, found = problem.blocks, []
  for group in problem.groups:
    tried = [cost(problem, best, group)]
    choices = [c for c in group.choices if group.refuse(c) is None]
    if static:
      choices = [c for c in choices if not group.only_timed(c)]
    if tried[0].cost == 0.0:  # no such kernel in this problem
      choices = []
    for choice in choices[:limit]:
      blocks = _spaces.merged(best, choice)
      if blocks != best:
        tried.append(cost(problem, blocks, group))
    # Sorting is stable: of equals the tiles that hold now stay.
    tried.sort(key=lambda each: each.cost)
    if math.isinf(tried[0].cost):
      reasons = "; ".join(sorted({each.note for each in tried}))
      raise ValueError(f"no tile works for {group.name}: {reasons}")
    best = tried[0].blocks
    found.append(tried)
  return found


def timed(problem, blocks, group, *, clock=time.perf_counter) -> Tried:
  """Median microseconds of warm runs here, forward and backward."""
  del group
  function = problem.function(blocks, jax.devices()[0].device_kind)
  try:
    spent = _time(function, problem.data(), clock)
    return Tried(blocks, spent, "microseconds")
  except Exception as error:  # compilers raise what they like
    return Tried(blocks, math.inf, _first_line(error))


def compiled(target: str) -> Callable:
  """A cost: what a score (or output) takes of a target's instructions.

  GPU: instructions of a thread, in the innermost loop, for each element.
  TPU: bundles for each element. Tiles that spill are refused.
  """

  def cost(problem, blocks, group):
    function = problem.function(blocks, targets.get(target).kind)
    try:
      program = aot.compile_for(target, function, problem.args)
    except Exception as error:
      return Tried(blocks, math.inf, _first_line(error))
    count = _gpu if targets.get(target).platform == "cuda" else _tpu
    return count(program, blocks, group)

  return cost


def _gpu(program, blocks, group) -> Tried:
  total = 0.0
  for kernel in _of(group, sass.report(program)):
    problems = lints.spills(kernel) + lints.serialised(kernel)
    if problems:
      return Tried(blocks, math.inf, problems[0])
    loops = [
      loop.total() for loop in kernel.loops if sass.count(loop, "HGMMA", "HMMA")
    ]
    total += min(loops, default=kernel.instructions)
  return Tried(blocks, total / group.elements(blocks), "instructions")


def _tpu(program, blocks, group) -> Tried:
  total = sum(kernel.bundles for kernel in _of(group, bundles.report(program)))
  return Tried(blocks, total / group.elements(blocks), "bundles")


def _of(group, kernels):
  return [k for k in kernels if k.name.startswith(group.kernels)]


def time_reference(problem, clock=time.perf_counter) -> float:
  """Microseconds of XLA's own code for the same."""
  return _time(problem.reference, problem.data(), clock)


def _time(function, args, clock) -> float:
  run, times = jax.jit(function), []
  for _ in range(_WARM + _RUNS):
    start = clock()
    jax.block_until_ready(run(*args))
    times.append(clock() - start)
  return 1e6 * statistics.median(times[_WARM:])


def _first_line(error) -> str:
  text = str(error).strip() or "no reason given"
  return f"{type(error).__name__}: {text.splitlines()[0][:160]}"


def entries_of(
  problem: _problems.Problem, tried: list[list[Tried]], times: Mapping | None
) -> list[dict]:
  """Entries of a table for what was found.

  Args:
    problem: what was computed.
    tried: of `search`.
    times: implementation -> microseconds, the problem's own and
      'reference' among them; None where nothing was timed.
  """
  best = tried[-1][0]
  name = problem.implementation
  if times is None:
    number = sum(len(group) for group in tried)
    note = (
      f"fewest {best.note} an element of {number} tiles compiled with jax "
      f"{jax.__version__} and not timed"
    )
    source = {"kind": "static", "note": note}
    return [
      _dispatch.entry_of(problem.case, name, best.blocks, source, choose=False)
    ]
  source = {
    "kind": "measured",
    "date": datetime.date.today().isoformat(),
    "jax": jax.__version__,
    "microseconds": {k: round(v, 1) for k, v in times.items()},
  }
  fastest = min(times, key=times.get)
  own = _dispatch.entry_of(
    problem.case, name, best.blocks, source, choose=fastest == name
  )
  if fastest == name:
    return [own]
  other = _dispatch.entry_of(problem.case, fastest, None, source)
  return [other, own]


def write(entries, kind: str, folder, *, force: bool) -> pathlib.Path:
  """Adds entries to the table of a kind of device; its file.

  Raises:
    FileExistsError: an entry of the same case would be lost, and not `force`.
  """
  folder = pathlib.Path(folder)
  path = folder / _dispatch.file_name(kind)
  table = {"format": _dispatch.FORMAT, "device": kind, "entries": []}
  if path.exists():
    table = _dispatch.load(path)
  new = _dispatch.merge(table, entries)
  lost = [e for e in table["entries"] if e not in new["entries"]]
  if lost and not force:
    raise FileExistsError(
      f"{path} has {len(lost)} entr{'y' if len(lost) == 1 else 'ies'} for "
      "this case already: --force replaces, --out writes elsewhere"
    )
  return _dispatch.save(new, folder)


def main(argv=None) -> int:
  """Tunes one case; see the module."""
  options = _parser().parse_args(argv)
  here = jax.devices()[0]
  target = targets.TARGETS.get(options.device)
  kind = target.kind if target else here.device_kind
  present = kind == here.device_kind
  if not present and (reason := aot.available(target.name)):
    print(f"there is no {kind} here, and {reason}", file=sys.stderr)
    return 2
  platform = _platform.device(target.platform if target else here.platform)
  name = options.implementation or _KERNELS.get(platform.platform, "")
  problem = _problems.make(
    options, name, target.fast_memory if target else _FAST_MEMORY
  )
  cost = timed if present else compiled(target.name)
  tried = search(problem, cost, static=not present, limit=options.limit)
  for group, rows in zip(problem.groups, tried):
    print(f"{group.name}: {len(rows)} tried, best first")
    for row in rows[:5]:
      changed = {
        name: value
        for name, value in row.blocks.items()
        if value != problem.blocks[name]
      }
      print(f"  {row.cost:10.3f} {row.note}  {changed or 'as it is'}")
  times = None
  if present:
    times = {name: tried[-1][0].cost, "reference": time_reference(problem)}
  try:
    entries = entries_of(problem, tried, times)
    print(write(entries, kind, options.out, force=options.force))
  except FileExistsError as error:
    print(error, file=sys.stderr)
    return 1
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = parser.add_argument
  ops = sorted({op for op, _ in _spaces.spaces()})
  add("--op", required=True, choices=ops)
  add(
    "--device",
    choices=sorted(targets.TARGETS),
    help="what to tune for; the device that is here where left out",
  )
  add("--implementation", choices=sorted({n for _, n in _spaces.spaces()}))
  _problems.add_arguments(parser)
  add("--limit", type=int, help="at most so many choices a kernel")
  add("--out", type=pathlib.Path, default=_dispatch.FOLDER, help="folder")
  add("--force", action="store_true", help="replace entries of this case")
  return parser


if __name__ == "__main__":
  raise SystemExit(main())
