"""Every optimizer on one model: step time, state, loss at equal steps and time.

A small decoder learns next tokens: AdamW takes it below the entropy of single
tokens within 40 steps, where a masked LM of its size had not left it in 200.

  python -m benchmarks.optimizers --files=corpus.txt --json=o.json \
      --plot=docs/optimizers.png

Each optimizer chooses among the same multiples of its usual rate by the loss
of one seed, and runs the others at that rate. Then all race: rounds of steps,
one optimizer after the other, told as ratios to AdamW's.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks import _machine, _training
from jaxlm import configuration, errors
from jaxlm.data import datasets

_ADAMW = dict(kind="adamw", eps=1e-6, weight_decay=0.01)
# name -> (usual rate, spec)
CONTENDERS: dict[str, tuple[float, dict]] = {
  "adamw": (2e-3, _ADAMW),
  "adamw, 8 bits": (2e-3, dict(kind="eight_bit", base=_ADAMW, smallest=1024)),
  "bert adam": (2e-3, _ADAMW | dict(bias_correction=False)),
  "stable_adamw": (2e-3, dict(kind="stable_adamw", weight_decay=0.01)),
  "lamb": (1e-2, dict(kind="lamb")),
  "muon": (2e-3, dict(kind="muon")),
  "soap": (2e-3, dict(kind="soap")),
  "shampoo": (2e-3, dict(kind="shampoo")),
  "sophia": (1e-3, dict(kind="sophia")),
  "adahessian": (3e-2, dict(kind="adahessian")),
  "adahessian, every 10": (3e-2, dict(kind="adahessian", interval=10)),
  "sam": (2e-3, dict(kind="sam", base=_ADAMW)),
  "sam, every 5": (2e-3, dict(kind="sam", base=_ADAMW, interval=5)),
  "fsam": (2e-3, dict(kind="fsam", base=_ADAMW, keep=0.5, refresh=50)),
  "galore": (1e-2, dict(kind="galore", rank=16, refresh=50)),
  "gradnormlorp": (1e-2, dict(kind="gradnormlorp", rank=16, refresh=50)),
}


def config_of(spec: dict, args) -> dict:
  """The config of one contender."""
  config = configuration.complete(configuration.load(f"{args.model}:tiny"))
  clip = 0.0 if spec["kind"] in ("adahessian", "sam", "fsam") else 1.0
  return config | dict(
    steps=args.steps,
    batch_size=args.rows,
    clip_norm=clip,
    data=dict(
      kind="packed",
      files=args.files,
      length=args.length,
      validation_share=0.1,
      corruption=dict(kind="causal"),
    ),
    tokenizer=dict(kind="byte_bpe", vocab_size=args.vocabulary),
    objective=dict(kind="causal_lm"),
    optimizer=dict(spec),
    schedule=dict(kind="linear", warmup=0.1),
  )


def prepare(name: str, args, folder):
  """The config of one contender, and its data."""
  config = config_of(CONTENDERS[name][1], args)
  prepared = datasets.build(config["data"]).prepare(
    tokenizer=config["tokenizer"],
    workdir=folder,
    batch_size=args.rows,
    seed=0,
    report=lambda line: None,
  )
  return config, prepared


def run(name: str, args, folder) -> dict:
  """Trains one contender on all seeds, at the best of its rates."""
  config, prepared = prepare(name, args, folder)
  rates = [CONTENDERS[name][0] * factor for factor in args.factors]
  return dict(name=name, **_training.tuned(config, prepared, args, rates))


def timed(results: list[dict], args, folder) -> None:
  """Adds to each the `seconds` a step of every round of a race."""
  runners = {}
  for r in results:
    config, prepared = prepare(r["name"], args, folder)
    config["optimizer"]["learning_rate"] = r["rate"]
    runners[r["name"]] = _training.Runner(config, prepared, args)
  found = _training.race(runners, args.rounds, args.round)
  for r in results:
    r["seconds"] = found[r["name"]]


def table(results: list[dict]) -> str:
  """One row a contender; the first is what ratios are to."""
  first = results[0]
  steps = first["curves"][0]["steps"][-1]
  lines = [
    "| optimizer | rate | step time | state, bytes | loss, equal steps | "
    "equal time |",
    "|---|---|---|---|---|---|",
  ]
  for r in results:
    ratio = statistics.median(_training.ratios(r, first))
    cells = [
      r["name"],
      f"{r['rate']:g}",
      _training.ratio_cell(r, first),
      f"{r['state_bytes'] / first['state_bytes']:.2f}x",
      _training.cell(r, steps),
      # Not longer than its own run, where it is the faster.
      _training.cell(r, min(steps / ratio, steps)),
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def plot(results: list[dict], file: str) -> None:
  """Dots of held-out losses: after equal steps, and after equal time."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  steps = results[0]["curves"][0]["steps"][-1]
  slower = [statistics.median(_training.ratios(r, results[0])) for r in results]
  figure, axes = pyplot.subplots(figsize=(7, 0.36 * len(results) + 1.2))
  places = range(len(results))
  budgets = [min(steps / ratio, steps) for ratio in slower]
  for label, marker, spent in (
    ("equal steps", "o", [steps] * len(results)),
    ("equal time", "s", budgets),
  ):
    losses = [_training.losses_at(r, b) for r, b in zip(results, spent)]
    middles = [statistics.fmean(each) for each in losses]
    spread = [statistics.stdev(e) if len(e) > 1 else 0.0 for e in losses]
    hollow = "white" if marker == "s" else None
    axes.errorbar(
      middles,
      places,
      xerr=spread,
      fmt=marker,
      label=label,
      capsize=2,
      markerfacecolor=hollow,
    )
  axes.set_yticks(places, [r["name"] for r in results])
  axes.invert_yaxis()
  axes.set_xlabel("held-out loss a token, nats (mean and deviation of seeds)")
  axes.grid(axis="x", alpha=0.3)
  axes.legend(frameon=False)
  figure.tight_layout()
  figure.savefig(file, dpi=140)


def arguments(argv):
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--files", required=True, help="training text")
  parser.add_argument("--names", default="", help="contenders, with ;")
  parser.add_argument("--model", default="gpt2", help="a decoder's config")
  parser.add_argument("--vocabulary", type=int, default=1024)
  parser.add_argument("--rows", type=int, default=32)
  parser.add_argument("--length", type=int, default=64)
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--every", type=int, default=25)
  parser.add_argument("--batches", type=int, default=8)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument(
    "--factors",
    type=lambda s: [float(x) for x in s.split(",")],
    default=[1 / 3, 1.0, 3.0],
    help="of the usual rate",
  )
  parser.add_argument("--rounds", type=int, default=5, help="of the race")
  # As long as the longest interval at which an optimizer does more.
  parser.add_argument("--round", type=int, default=50, help="steps of a round")
  parser.add_argument("--json", default="", help="where numbers are kept")
  parser.add_argument("--plot", default="", help="where the picture goes")
  return parser.parse_args(argv)


def main(argv=None) -> None:
  """Runs all contenders and prints the table."""
  args = arguments(argv)
  wanted = args.names.split(";") if args.names else list(CONTENDERS)
  for name in wanted:
    if name not in CONTENDERS:
      raise SystemExit(
        str(errors.unknown("No contender is called", name, CONTENDERS))
      )
  kept = pathlib.Path(args.json) if args.json else None
  results = json.loads(kept.read_text()) if kept and kept.exists() else []
  done = {r["name"] for r in results}
  with tempfile.TemporaryDirectory() as folder:
    for name in wanted:
      if name in done:
        continue
      print(f"{name} ...", file=sys.stderr, flush=True)
      results.append(run(name, args, pathlib.Path(folder)))
      if kept:
        kept.write_text(json.dumps(results))
    raced = [r for r in results if r["name"] in wanted]
    timed(raced, args, pathlib.Path(folder))
  if kept:
    kept.write_text(json.dumps(results))
  print(
    f"{_machine.named()}; {args.model}:tiny, {args.steps} steps of "
    f"{args.rows} x {args.length} tokens, {args.seeds} seeds, rates times "
    f"{args.factors}"
  )
  print(table(raced))
  if args.plot:
    plot(raced, args.plot)


if __name__ == "__main__":
  main()
