"""Variation sets in child-directed speech, measured by minimal pairs.

  python -m benchmarks.variation_sets --files=childes.txt \
      --pairs='blimp/*.jsonl.gz' --json=sets.json

After Haga et al. (arXiv:2411.09587): a GPT-2 on a fixed number of words of
which a share stands in variation sets (by rules unless `--sets` says
otherwise), presented together, in adjacent batches, or shuffled. All runs
have one vocabulary (of the speech alone), one model and as many updates of
about as many tokens; a seed draws the parameters and what is mixed. Accuracy
is the mean over paradigms, after the first part of the updates and after all;
`loss` is that of held-out speech in running text. Runs that --json holds are
not repeated.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time

from benchmarks import _machine, _training
from configs import variation_sets
from jaxlm import configuration, loading
from jaxlm.data import datasets, tokenizers
from jaxlm.evaluation import minimal_pairs
from jaxlm.training import evaluate as evaluation

ORDERS = ["adjacent", "shuffled"]  # beside together


def config_of(order: str, share: float, seed: int, args) -> dict:
  """The config of one run."""
  name = dict(
    together="mini", adjacent="mini_adjacent", shuffled="mini_shuffled"
  )
  config = configuration.complete(variation_sets.get_config(name[order]))
  adjacent = order == "adjacent"
  config["data"] |= dict(
    files=args.files,
    share=share,
    words=args.words,
    mixing_seed=seed,
    length=args.utterance if adjacent else args.length,
    validation_share=0.05,
  )
  config["batch_size"] = args.rows * (args.more if adjacent else 1)
  config["steps"] = args.steps
  config["tokenizer"] |= dict(vocab_size=args.vocabulary)
  config["optimizer"] |= dict(learning_rate=args.learning_rate)
  model = config["model"]
  layer = model["layers"]["layer"]
  layer["mixer"]["heads"] = args.heads
  layer["feedforward"]["hidden"] = 4 * args.width
  model |= dict(
    width=args.width, depth=args.layers, stack=dict(kind="sequential")
  )
  return config


def vocabulary(args):
  """One for all runs, of the speech alone."""
  config = config_of("together", 0.0, 0, args)
  data = datasets.build(config["data"])
  texts = (text for split, text in data.texts() if split == "train")
  return tokenizers.train(config["tokenizer"], texts)


class Contender:
  """One order's compiled step, which all its runs share."""

  def __init__(self, order: str, tokenizer, folder, args):
    self.order, self.tokenizer, self.args = order, tokenizer, args
    self.folder = folder
    config = config_of(order, 0.0, 0, args)
    self.runner = _training.Runner(config, self.prepared(0.0, 0), args)

  def prepared(self, share: float, seed: int):
    """The data of one run."""
    config = config_of(self.order, share, seed, self.args)
    return datasets.build(config["data"]).prepare(
      tokenizer=self.tokenizer,
      workdir=self.folder / f"{self.order}-{share}-{seed}",
      batch_size=config["batch_size"],
      seed=seed,
      report=lambda line: None,
    )

  def run(self, share: float, seed: int, held_out) -> dict:
    """Trains one model, and measures it at the stops."""
    made, runner = self.prepared(share, seed), self.runner
    runner.plan = dataclasses.replace(runner.plan, task=made.train)
    state, start, found = runner.fresh(seed), time.process_time(), {}
    for number in range(self.args.steps):
      state = runner.update(state, seed, number)
      if number + 1 in self.args.stops:
        found[str(number + 1)] = self.measured(state, held_out)
    facts = made.facts["variation_sets"]
    return dict(
      order=self.order,
      share=share,
      seed=seed,
      stops=found,
      seconds=time.process_time() - start,
      realised=facts["share_of_words"],
      words=facts["words"],
      rows=made.train.rows,
    )

  def measured(self, state, held_out) -> dict:
    """Accuracies on pairs, and the loss of held-out speech."""
    plan = self.runner.plan
    loaded = loading.Loaded(
      model=plan.model,
      variables={"params": state.params},
      spec={},
      tokenizer=self.tokenizer,
      labels=(),
      task=None,
      source="benchmark",
      facts={},
    )
    found = minimal_pairs.pairs(loaded, self.args.pairs, most=self.args.most)
    loss = evaluation.evaluate(
      self.runner.evaluate,
      plan.objective,
      state,
      held_out,
      plan.mesh,
      self.args.batches,
    )["loss"]
    return dict(accuracy=found["accuracy"], by_term=found["by_term"], loss=loss)


def wanted(args) -> list[tuple[str, float]]:
  """(order, share) of all conditions: shares together, orders at one share."""
  shares = [("together", share) for share in args.shares]
  return shares + [(order, args.at) for order in args.orders]


def cell(runs, stop: str, what: str, scale: float = 1.0) -> str:
  """Mean and standard deviation over seeds."""
  values = [scale * run["stops"][stop][what] for run in runs]
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return f"{statistics.fmean(values):.2f} ± {spread:.2f}"


def table(results: list[dict], args) -> str:
  """One row a condition."""
  stops = [str(stop) for stop in args.stops]
  head = ["order", "share of words", "realised", "rows"]
  head += [f"BLiMP % after {stop}" for stop in stops]
  head += [f"loss after {stops[-1]}", "CPU s a run"]
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for order, share in wanted(args):
    runs = [r for r in results if (r["order"], r["share"]) == (order, share)]
    if not runs:
      continue
    mean = lambda key, runs=runs: statistics.fmean(r[key] for r in runs)
    cells = [order, f"{share:.0%}", f"{mean('realised'):.1%}"]
    cells += [f"{mean('rows'):,.0f}"]
    cells += [cell(runs, stop, "accuracy", 100) for stop in stops]
    cells += [cell(runs, stops[-1], "loss"), f"{mean('seconds'):.0f}"]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def terms(results: list[dict], args) -> str:
  """Accuracy of each phenomenon by share, together, after all updates."""
  stop = str(args.stops[-1])
  runs = [r for r in results if r["order"] == "together"]
  names = sorted(runs[0]["stops"][stop]["by_term"])
  head = ["phenomenon", *(f"{share:.0%}" for share in args.shares)]
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  for name in names:
    cells = [name]
    for share in args.shares:
      values = [
        100 * r["stops"][stop]["by_term"][name]
        for r in runs
        if r["share"] == share
      ]
      spread = statistics.stdev(values) if len(values) > 1 else 0.0
      cells.append(f"{statistics.fmean(values):.1f} ± {spread:.1f}")
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  numbers = lambda text: [float(x) for x in text.split(",")]
  steps = lambda text: [int(x) for x in text.split(",")]
  parser.add_argument("--files", required=True, help="speech, as CHILDES")
  parser.add_argument("--pairs", required=True, help="files of minimal pairs")
  parser.add_argument("--most", type=int, default=20, help="of a paradigm")
  parser.add_argument(
    "--shares", type=numbers, default=[0, 0.2, 0.4, 0.6, 0.8, 1]
  )
  parser.add_argument(
    "--orders", type=lambda text: text.split(","), default=ORDERS
  )
  parser.add_argument("--at", type=float, default=0.4, help="share of orders")
  parser.add_argument("--words", type=int, default=40_000)
  parser.add_argument("--stops", type=steps, default=[60, 300])
  parser.add_argument("--layers", type=int, default=2)
  parser.add_argument("--width", type=int, default=64)
  parser.add_argument("--heads", type=int, default=4)
  parser.add_argument("--rows", type=int, default=16)
  parser.add_argument(
    "--more", type=int, default=8, help="rows of one utterance"
  )
  parser.add_argument("--length", type=int, default=64)
  parser.add_argument("--utterance", type=int, default=20, help="its tokens")
  parser.add_argument("--vocabulary", type=int, default=2048)
  parser.add_argument("--learning-rate", type=float, default=4e-3)
  parser.add_argument("--batches", type=int, default=8)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--json", default="", help="where numbers are kept")
  args = parser.parse_args(argv)
  args.steps = max(args.stops)
  return args


def main(argv=None) -> None:
  """Runs all conditions and seeds, and prints the tables."""
  args = arguments(argv)
  kept = pathlib.Path(args.json) if args.json else None
  results = json.loads(kept.read_text()) if kept and kept.exists() else []
  done = {(r["order"], r["share"], r["seed"]) for r in results}
  tokenizer = vocabulary(args)
  with tempfile.TemporaryDirectory() as folder:
    made = {}
    for seed in range(args.seeds):
      for order, share in wanted(args):
        if (order, share, seed) in done:
          continue
        for name in {order, "together"} - set(made):
          made[name] = Contender(name, tokenizer, pathlib.Path(folder), args)
        held_out = made["together"].prepared(0.0, 0).validation
        results.append(made[order].run(share, seed, held_out))
        last = results[-1]["stops"][str(args.steps)]
        print(order, share, seed, last["accuracy"], file=sys.stderr, flush=True)
        if kept:
          kept.write_text(json.dumps(results))
  print(
    f"{_machine.named()}; {args.layers} layers, width "
    f"{args.width}, {args.vocabulary:,} pieces, {args.words:,} words, "
    f"{args.steps} updates of {args.rows} x {args.length} tokens, "
    f"{args.most} pairs a paradigm, {args.seeds} seeds"
  )
  print(table(results, args))
  print()
  print(terms(results, args))


if __name__ == "__main__":
  main()
