"""Every encoder at equal parameters, data and tokens: masked-LM loss and cost.

  python benchmarks/architectures.py --files=corpus.txt --json=a.json
  python benchmarks/architectures.py --names=bert,convbert --steps=100 --seeds=1

Each config's `tiny` model gets feed-forwards as wide as it takes to reach
`--parameters`, the one masked-LM objective, the same rows (running text, so
that parts that must not see packed documents can take part), the same
optimizer and the same rates to choose from. A constant rate after the warm-up,
so that the loss on the way is the loss of a shorter run.
"""

import argparse
import importlib
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile

import jax

import jaxlm
from benchmarks import _training
from jaxlm import configuration, errors, paths, recipe
from jaxlm.data import datasets
from jaxlm.models import assembly

NOT_ENCODERS = ("demo", "common", "__init__")


def names() -> list[str]:
  """Configs whose `tiny` variant is one encoder."""
  found = []
  for path in sorted(configuration.SHIPPED.glob("*.py")):
    if path.stem in NOT_ENCODERS:
      continue
    module = importlib.import_module(f"configs.{path.stem}")
    if "tiny" in getattr(module, "SIZES", {}):
      model = module.get_config("tiny").model
      if model.get("kind") == "encoder":
        found.append(path.stem)
  return found


def config_of(name: str, args) -> dict:
  """The config of one contender, all but its width of feed-forwards."""
  config = configuration.complete(configuration.load(f"{name}:tiny"))
  config |= dict(
    steps=args.steps,
    batch_size=args.rows,
    clip_norm=1.0,
    data=dict(
      kind="packed",
      files=args.files,
      length=args.length,
      validation_share=0.1,
      arrangement=dict(kind="blocks", unit="tokens"),
      corruption=dict(kind="masking", rate=0.15),
    ),
    tokenizer=dict(kind="wordpiece", vocab_size=args.vocabulary),
    objective=dict(kind="masked_lm"),
    optimizer=dict(kind="adamw", b2=0.98, eps=1e-6, weight_decay=0.01)
    | dict(learning_rate=args.rates[0]),
    schedule=dict(kind="constant", warmup=0.1),
  )
  model = dict(config["model"])
  head = model["heads"].get("masked_lm", dict(kind="masked_lm"))
  stack = dict(model.get("stack", {"kind": "sequential"}))
  stack.pop("remat", None)
  config["model"] = model | dict(heads=dict(masked_lm=head), stack=stack)
  return config


def widened(model: dict, hidden: int) -> dict:
  """The model with feed-forwards of this width, where they have one."""
  layers = {
    name: layer
    | dict(feedforward=_with_hidden(dict(layer["feedforward"]), hidden))
    for name, layer in model["layers"].items()
  }
  return model | dict(layers=layers)


def _with_hidden(part: dict, hidden: int) -> dict:
  return part | dict(hidden=hidden) if "hidden" in part else part


def fitted(model: dict, wanted: int, vocab_size: int) -> tuple[dict, int]:
  """The model nearest to a number of parameters, and its number."""

  def size(hidden):
    spec = widened(model, hidden) | dict(vocab_size=vocab_size)
    return paths.count(recipe.shapes(assembly.build(spec)))

  low, high = 1, 4096  # times 16, which all groups and blocks divide
  while low < high:
    middle = (low + high) // 2
    low, high = (
      (middle + 1, high) if size(16 * middle) < wanted else (low, middle)
    )
  hidden = min(
    (16 * max(low - 1, 1), 16 * low), key=lambda h: _off(size(h), wanted)
  )
  return widened(model, hidden), size(hidden)


def _off(size, wanted):
  return abs(size - wanted)


def prepare(name: str, args, folder: pathlib.Path):
  """The config of one contender, its data and its number of parameters."""
  config = config_of(name, args)
  prepared = datasets.build(config["data"]).prepare(
    tokenizer=config["tokenizer"],
    workdir=folder,
    batch_size=args.rows,
    seed=0,
    report=lambda line: None,
  )
  vocab_size = prepared.facts["vocab_size"]
  config["model"], size = fitted(config["model"], args.parameters, vocab_size)
  return config, prepared, size


def run(name: str, args, folder: pathlib.Path) -> dict:
  """Trains one contender on all seeds, at the best of the rates."""
  config, prepared, size = prepare(name, args, folder)
  return dict(
    name=name,
    parameters=size,
    unigram=_training.unigram_entropy(prepared.train, 64),
    **_training.tuned(config, prepared, args, args.rates),
  )


def timed(results: list[dict], args, folder: pathlib.Path) -> None:
  """Adds to each the `seconds` a step of every round of a race."""
  runners = {}
  for r in results:
    config, prepared, _ = prepare(r["name"], args, folder)
    runners[r["name"]] = _training.Runner(config, prepared, args)
  found = _training.race(runners, args.rounds, args.round)
  for r in results:
    r["seconds"] = found[r["name"]]


def table(results: list[dict], args) -> str:
  """One row a contender, in the order of loss at equal steps."""
  steps = results[0]["curves"][0]["steps"][-1]
  seconds = {r["name"]: statistics.median(r["seconds"]) for r in results}
  least_flops = min(r["flops"] for r in results) * steps
  least_time = min(seconds.values()) * steps
  lines = [
    "| model | parameters | rate | loss, equal steps | equal FLOPs | "
    "equal time | GFLOPs a step | tokens/s | step, MB |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for r in sorted(results, key=lambda r: _training.mean_at(r, steps)):
    speed = args.rows * args.length / seconds[r["name"]]
    cells = [
      r["name"],
      f"{r['parameters']:,}",
      f"{r['rate']:g}",
      _training.cell(r, steps),
      _training.cell(r, least_flops / r["flops"]),
      _training.cell(r, least_time / seconds[r["name"]]),
      f"{r['flops'] / 1e9:.2f}",
      f"{speed:,.0f}",
      f"{(r['bytes'] or 0) / 1e6:,.0f}",
    ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--files", required=True, help="training text")
  parser.add_argument("--names", default="", help="configs, with commas")
  parser.add_argument("--parameters", type=int, default=800_000)
  parser.add_argument("--vocabulary", type=int, default=2048)
  parser.add_argument("--rows", type=int, default=32)
  parser.add_argument("--length", type=int, default=64)
  parser.add_argument("--steps", type=int, default=600)
  parser.add_argument("--every", type=int, default=50)
  parser.add_argument("--batches", type=int, default=8)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument(
    "--rates", type=lambda s: [float(x) for x in s.split(",")], default=[2e-3]
  )
  parser.add_argument("--rounds", type=int, default=7, help="of the race")
  parser.add_argument("--round", type=int, default=10, help="steps of a round")
  parser.add_argument("--json", default="", help="where numbers are kept")
  return parser.parse_args(argv)


def main(argv=None) -> None:
  """Runs all contenders, and prints the table after each."""
  args = arguments(argv)
  wanted = args.names.split(",") if args.names else names()
  for name in wanted:
    if name not in names():
      raise SystemExit(
        str(errors.unknown("No encoder's config is", name, names()))
      )
  kept = pathlib.Path(args.json) if args.json else None
  results = json.loads(kept.read_text()) if kept and kept.exists() else []
  done = {r["name"] for r in results}
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for name in wanted:
      if name in done:
        continue
      print(f"{name} ...", file=sys.stderr, flush=True)
      # One folder: all read the same vocabulary and the same cache.
      results.append(run(name, args, folder))
      if kept:
        kept.write_text(json.dumps(results))
    raced = [r for r in results if r["name"] in wanted]
    timed(raced, args, folder)
  if kept:
    kept.write_text(json.dumps(results))
  print(
    f"jaxlm {jaxlm.__version__}, jax {jax.__version__}, "
    f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
    f"Python {platform.python_version()}; {args.steps} steps of {args.rows} x "
    f"{args.length} tokens, {args.seeds} seeds"
  )
  print(table(raced, args))
  print(f"Entropy of single tokens: {raced[0]['unigram']:.3f} nats.")


if __name__ == "__main__":
  main()
