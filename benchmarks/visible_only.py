"""Encoders that leave tokens out against the full one: seconds and loss.

  python -m benchmarks.visible_only --files=corpus.txt            # time alone
  python -m benchmarks.visible_only --files=corpus.txt --steps=1000 --seeds=3

At each masking rate all contenders read the very same batches, with the same
width, number of layers, head and optimizer, and differ in what runs where:
`full` is the encoder; `3ml` and `3ml_cross` encode visible tokens and add
masked ones in their last layer; `sparse_queries` runs all but two layers at
predicted places alone, `context_first` all feed-forwards. They take turns, so
that what else the machine does falls on all; batches of the race are made
beforehand. With `--steps` each is trained and evaluated on rows with 15%
hidden, whatever it was trained on; equal time is that of the fastest.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

import numpy as np

from benchmarks import _machine, _training
from configs import narrowbert, roberta, three_ml
from jaxlm import configuration, errors, recipe, sharding
from jaxlm.data import datasets
from jaxlm.training import loop
from jaxlm.training import state as states
from jaxlm.training.step import Clock

FULL = "full"


class Timed:
  """A compiled step whose batches are made beforehand."""

  kept = 4

  def __init__(self, config, prepared):
    self.plan = recipe.build(
      config,
      spec=recipe.model_spec(config, prepared.facts),
      train=prepared.train,
      validation=None,
      facts=prepared.facts,
    )
    self.step = loop.compile_step(self.plan, loop.abstract_state(self.plan))
    made = [self.plan.task.batch_at(0, number) for number in range(self.kept)]
    self.batches = [sharding.shard_batch(b, self.plan.mesh) for b in made]

  def fresh(self, seed: int):
    """A state with fresh parameters."""
    plan = self.plan
    return states.create(
      plan.model, plan.tx, plan.task.batch_spec, seed=seed, mesh=plan.mesh
    )

  def update(self, state, seed: int, number: int):
    """The state after one step, on one of the few batches."""
    del seed
    clock = Clock(np.int32(number), np.int32(number))
    return self.step(state, self.batches[number % self.kept], clock)[0]


def models(args) -> dict[str, dict]:
  """name -> spec, all of as many layers."""
  plain = roberta.get_config("tiny").model.to_dict()
  layer = dict(plain["layers"]["layer"])
  layer["mixer"] = dict(kind="attention", heads=args.heads)
  layer["feedforward"] = dict(layer["feedforward"], hidden=4 * args.width)
  plain |= dict(
    width=args.width,
    depth=args.layers,
    dropout=0.0,
    layers=dict(layer=layer),
    stack=dict(kind="sequential"),
    initializer=dict(std=args.width**-0.5, truncated=True),
  )
  return {
    FULL: plain,
    "3ml": visible(plain, crosses=False),
    "3ml_cross": visible(plain, crosses=True),
    "sparse_queries": narrowbert.sparse_queries(
      dict(plain), 2, args.layers - 2
    ),
    "context_first": plain | dict(kind="context_first_encoder"),
  }


def visible(plain: dict, *, crosses: bool) -> dict:
  """The same layers, the last of them the decoder of 3ML."""
  encoder = plain | dict(depth=plain["depth"] - 1)
  whole = {key: encoder.pop(key) for key in ("embeddings", "heads")}
  towers = dict(encoder=encoder, decoder=three_ml.decoder(encoder, 1, crosses))
  return whole | dict(
    kind="visible_encoder",
    width=plain["width"],
    towers=towers,
    norm=plain["norm"],
    initializer=plain["initializer"],
  )


def config_of(model: dict, rate: float, args) -> dict:
  """The config of one contender at a masking rate."""
  hiding = dict(kind="visible_masking", mask=0.8, random=0.1, keep=0.1)
  config = configuration.complete(roberta.get_config("tiny"))
  return config | dict(
    steps=max(args.steps, 1),
    batch_size=args.rows,
    microbatches=1,
    clip_norm=1.0,
    precision=dict(compute=args.precision, params="float32"),
    data=dict(
      kind="packed",
      files=args.files,
      length=args.length,
      validation_share=0.1,
      corruption=hiding | dict(rate=rate),
      evaluation_corruption=hiding | dict(rate=0.15),
    ),
    tokenizer=dict(kind="wordpiece", vocab_size=args.vocabulary),
    model=model,
    objective=dict(kind="masked_lm"),
    optimizer=dict(kind="adamw", b2=0.98, eps=1e-6, weight_decay=0.01)
    | dict(learning_rate=args.learning_rates[0]),
    schedule=dict(kind="constant", warmup=0.1),
  )


def run(rate: float, args, folder: pathlib.Path) -> list[dict]:
  """All contenders at one masking rate."""
  specs = models(args)
  wanted = [FULL, *(args.names.split(",") if args.names else specs)]
  configs = {
    name: config_of(specs[name], rate, args) for name in dict.fromkeys(wanted)
  }
  prepared = datasets.build(configs[FULL]["data"]).prepare(
    tokenizer=configs[FULL]["tokenizer"],
    workdir=folder,
    batch_size=args.rows,
    seed=0,
    report=lambda line: None,
  )
  runners = {name: Timed(config, prepared) for name, config in configs.items()}
  times = _training.race(runners, args.rounds, args.round_steps)
  results = []
  for name, runner in runners.items():
    found = dict(name=name, rate=rate, seconds=times[name])
    found["flops"] = runner.plan.flops_per_step
    if args.steps:
      print(f"{name} at {rate:.0%} ...", file=sys.stderr, flush=True)
      made = _training.tuned(configs[name], prepared, args, args.learning_rates)
      found |= dict(learning_rate=made["rate"], curves=made["curves"])
    results.append(found)
  return results


def table(results: list[dict]) -> str:
  """One row a contender and rate: time, and losses where there are any."""
  trained = "curves" in results[0]
  head = ["masked", "model", "FLOPs", "ms a step", "times as fast as full"]
  head += ["loss, equal steps", "equal time"] if trained else []
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for found in results:
    same = [r for r in results if r["rate"] == found["rate"]]
    full = next(r for r in same if r["name"] == FULL)
    gains = _training.ratios(full, found)
    cells = [
      f"{found['rate']:.0%}",
      found["name"],
      f"{found['flops'] / full['flops']:.2f}x",
      f"{1e3 * statistics.median(found['seconds']):.1f}",
      f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})",
    ]
    if trained:
      steps = found["curves"][0]["steps"][-1]
      seconds = statistics.median(found["seconds"])
      least = min(statistics.median(r["seconds"]) for r in same)
      cells += [
        _training.cell(found, steps),
        _training.cell(found, steps * least / seconds),
      ]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  numbers = lambda text: [float(x) for x in text.split(",")]
  parser.add_argument("--files", required=True, help="training text")
  parser.add_argument("--names", default="", help="contenders, with commas")
  parser.add_argument("--rates", type=numbers, default=[0.15, 0.4, 0.5])
  parser.add_argument("--layers", type=int, default=6)
  parser.add_argument("--width", type=int, default=256)
  parser.add_argument("--heads", type=int, default=4)
  parser.add_argument("--rows", type=int, default=32)
  parser.add_argument("--length", type=int, default=128)
  parser.add_argument("--vocabulary", type=int, default=8000)
  parser.add_argument("--precision", default="auto")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--round-steps", type=int, default=2)
  parser.add_argument("--steps", type=int, default=0, help="0: time alone")
  parser.add_argument("--every", type=int, default=50)
  parser.add_argument("--batches", type=int, default=8)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--learning-rates", type=numbers, default=[1e-3])
  parser.add_argument("--json", default="", help="where numbers are kept")
  args = parser.parse_args(argv)
  if args.layers < 3:
    parser.error("--layers is at least 3: two whole ones and a narrow one")
  for name in filter(None, args.names.split(",")):
    if name not in models(args):
      parser.error(str(errors.unknown("No contender is", name, models(args))))
  return args


def main(argv=None) -> None:
  """Runs all contenders at all rates, and prints the table."""
  args = arguments(argv)
  kept = pathlib.Path(args.json) if args.json else None
  results = json.loads(kept.read_text()) if kept and kept.exists() else []
  with tempfile.TemporaryDirectory() as folder:
    for rate in args.rates:
      if any(r["rate"] == rate for r in results):
        continue
      # One folder: all read the same vocabulary and the same cache.
      results += run(rate, args, pathlib.Path(folder))
      if kept:
        kept.write_text(json.dumps(results))
  print(
    f"{_machine.named()}; {args.layers} layers, width "
    f"{args.width}, {args.rows} x {args.length} tokens, vocabulary "
    f"{args.vocabulary:,}; median of {args.rounds} rounds of "
    f"{args.round_steps} steps, least and most of the ratio in brackets"
  )
  print(table(results))


if __name__ == "__main__":
  main()
