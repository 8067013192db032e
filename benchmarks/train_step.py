"""One masked-LM training step: jaxlm against transformers in PyTorch.

  python -m benchmarks.train_step                     # BERT 'mini' on a CPU
  python -m benchmarks.train_step --size=base --rows=256 --bfloat16   # a GPU

The same BERT (configs/bert.py, without next-sentence prediction), the same
documents in the same number of updates, 15% masked, dropout 0.1, AdamW with
clipping; both frameworks in one run, taking turns. Contenders:

  jaxlm     packed rows, sparse predictions
  script    run_mlm.py --line_by_line: padded to the longest, all logits
  tuned     the same model sorted by length, logits at masked places only
  compiled  tuned, under torch.compile; only where asked for: on a CPU it
            may compile for more than 10 minutes

Text: the docstrings and the reference that every Python carries, cut at
--length tokens. Only real tokens count. Needs torch and transformers for all
but `jaxlm` (`pip install .[hf]`).
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import _documents, _workers

CONTENDERS = ("jaxlm", "script", "tuned", "compiled")
PAUSE = 1.0  # seconds; threads of the one before may spin for 0.2 on
QUICK = dict(
  size="tiny",
  vocab=1024,
  length=64,
  rows=4,
  updates=2,
  steps=1,
  repeats=2,
  contenders="jaxlm",
)


def main(arguments=None) -> dict:
  """Measures, prints the table, returns what it holds."""
  flags = _flags().parse_args(arguments)
  if flags.quick:
    vars(flags).update(QUICK)
  shown = _shown(flags)
  names = [name for name in flags.contenders.split(",") if name]
  if unknown := [name for name in names if name not in CONTENDERS]:
    raise SystemExit(f"No contender {unknown}; known: {', '.join(CONTENDERS)}")
  _workers.prepare(flags.cores)
  with tempfile.TemporaryDirectory() as folder:
    pool = _documents.pool(
      updates=flags.updates,
      rows=flags.rows,
      length=flags.length,
      vocab_size=flags.vocab,
      folder=folder,
    )
    workers = {}
    try:
      for name in names:  # one after the other: each compiles on all cores
        _say(f"starting {name}")
        workers[name] = _start(name, pool, flags)
      rounds = _measure(workers, flags.repeats, flags.steps)
    finally:
      for worker in workers.values():
        worker.close()
  results = {
    name: _summary(pool, workers[name].facts, rounds[name]) for name in names
  }
  report = {"about": _about(flags, shown, pool, workers), "results": results}
  print(table(report))
  if flags.json:
    pathlib.Path(flags.json).write_text(json.dumps(report, indent=2))
  return report


def _flags() -> argparse.ArgumentParser:
  cores = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
  )
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--size", default="mini", help="a size of configs/bert.py")
  add("--vocab", type=int, default=8192, help="WordPiece vocabulary")
  add("--length", type=int, default=128, help="most tokens of a document")
  add("--rows", type=int, default=16, help="packed rows of an update")
  add("--updates", type=int, default=32, help="updates that data are made for")
  add("--steps", type=int, default=4, help="updates of a round")
  add("--repeats", type=int, default=7, help="rounds")
  add("--cores", type=int, default=cores, help="processor cores, both sides")
  add("--bfloat16", action="store_true", help="compute in bfloat16")
  add("--contenders", default=",".join(CONTENDERS[:3]))
  add("--quick", action="store_true", help="jaxlm alone, tiny, in seconds")
  add("--json", default="", help="also write the numbers here")
  return parser


def _start(name, pool, flags) -> _workers.Worker:
  options = {"threads": flags.cores, "bfloat16": flags.bfloat16}
  if name == "jaxlm":
    return _workers.Worker("benchmarks._jaxlm", pool, flags.size, options)
  return _workers.Worker(
    "benchmarks._torch", pool, flags.size, options, kind=name
  )


def _measure(workers, repeats, steps) -> dict[str, list[dict]]:
  """Rounds of all contenders, in turns; the load of the machine beside."""
  rounds = {name: [] for name in workers}
  for index in range(repeats):
    for name, worker in workers.items():
      time.sleep(PAUSE)
      found = worker.round(index, steps)
      rounds[name].append(found | {"load": os.getloadavg()[0]})
      _say(f"{name}: {rounds[name][-1]['seconds']:.1f} s a round")
  return rounds


def _say(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


def _summary(pool, facts, rounds) -> dict:
  rates = sorted(r["tokens"] / r["seconds"] for r in rounds)
  return {
    "tokens_per_second": statistics.median(rates),
    "slowest": rates[0],
    "fastest": rates[-1],
    "tokens_per_cpu_second": statistics.median(
      r["tokens"] / r["cpu_seconds"] for r in rounds
    ),
    "real_share": pool.tokens / facts["positions"],
    "memory_bytes": max(r["memory"] for r in rounds),
    "parameters": facts["parameters"],
    "loss": rounds[-1]["loss"],
    "rounds": rounds,
  }


def _about(flags, shown, pool, workers) -> dict:
  versions = {"python": platform.python_version()}
  for worker in workers.values():
    versions |= worker.facts["versions"]
  documents = sum(len(row) for rows in pool.rows for row in rows)
  return {
    "command": f"python benchmarks/train_step.py {shown}",
    "date": datetime.date.today().isoformat(),
    "machine": f"{_processor()}, {flags.cores} core(s)",
    "devices": sorted({w.facts["device"] for w in workers.values()}),
    "versions": versions,
    "documents": documents,
    "tokens": pool.tokens,
    "updates": len(pool.rows),
    "steps": flags.steps,
    "rounds": flags.repeats,
  }


def _shown(flags) -> str:
  default = vars(_flags().parse_args([]))
  changed = {k: v for k, v in vars(flags).items() if v != default[k]}
  changed.pop("json", None)
  if flags.quick:
    changed = {"quick": True}
  return " ".join(
    f"--{k}" if v is True else f"--{k}={v}" for k, v in changed.items()
  )


def _processor() -> str:
  try:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
      if line.startswith("model name"):
        return line.split(":", 1)[1].strip()
  except OSError:
    pass
  return platform.processor() or platform.machine()


def table(report: dict) -> str:
  """The report in Markdown; ratios are those of jaxlm to the others."""
  about, results = report["about"], report["results"]
  versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
  lines = [
    f"`{about['command'].strip()}`  ",
    f"{about['date']}; {about['machine']} ({', '.join(about['devices'])}); "
    f"{versions}.  ",
    f"{about['tokens']:,} real tokens in {about['documents']} documents, "
    f"{about['updates']} updates, of which a round takes {about['steps']}; "
    f"median of {about['rounds']} rounds (slowest to fastest); load "
    f"{_load(results)}.",
    "",
    "| contender | parameters | real share | real tokens/s | "
    "tokens/s of CPU time | step memory, MB | jaxlm is |",
    "|---|---|---|---|---|---|---|",
  ]
  return "\n".join(lines + [_line(name, results) for name in results])


def _load(results) -> str:
  """How busy the machine was, this run included."""
  loads = [r["load"] for found in results.values() for r in found["rounds"]]
  return f"{min(loads):.1f} to {max(loads):.1f}"


def _line(name, results) -> str:
  r = results[name]
  ratios = "-"
  if "jaxlm" in results and name != "jaxlm":
    mine = results["jaxlm"]
    faster = mine["tokens_per_second"] / r["tokens_per_second"]
    cpu = mine["tokens_per_cpu_second"] / r["tokens_per_cpu_second"]
    memory = mine["memory_bytes"] / r["memory_bytes"]
    ratios = f"{faster:.2f}x (CPU time {cpu:.2f}x), memory {memory:.2f}x"
  return (
    f"| {name} | {r['parameters'] / 1e6:.2f}M | {r['real_share']:.0%} "
    f"| {r['tokens_per_second']:,.0f} ({r['slowest']:,.0f} to "
    f"{r['fastest']:,.0f}) | {r['tokens_per_cpu_second']:,.0f} "
    f"| {r['memory_bytes'] / 2**20:,.0f} | {ratios} |"
  )


if __name__ == "__main__":
  main()
