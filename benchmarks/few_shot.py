"""Does supervised contrast help where labels are few? SupCon on SST-2.

  python -m benchmarks.simcse ... --workdir=DIR     # makes DIR/start
  python -m benchmarks.few_shot --shared=../shared/data --start=DIR/start

From one masked LM, on each seed, a classifier is tuned on so many labelled
sentences, drawn by the seed, by cross-entropy and with supervised contrast
(share 0.9, temperature 0.3, the sheet's default): the same sentences, batches,
steps and rate, of which none is selected. Told is the accuracy on SST-2's
development set after the last step, and in how many seeds which arm is ahead.
"""

import argparse
import gzip
import json
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import numpy as np

from benchmarks import _machine
from jaxlm import configuration, run

ARMS = {"cross-entropy": 0.0, "with contrast": 0.9}


def config_of(share: float, seed: int, train, args) -> dict:
  """Fine-tuning on a file of examples."""
  name = "supervised_contrastive:classification"
  config = configuration.complete(configuration.load(name))
  config["data"] |= dict(
    files=str(train),
    validation_files=f"{args.shared}/glue/SST-2/dev.tsv.gz",
    text="sentence",
    length=64,
  )
  config["objective"] |= dict(share=share)
  config["optimizer"] |= dict(learning_rate=args.learning_rate)
  return config | dict(
    seed=seed,
    init_from=str(args.start),
    steps=args.steps,
    checkpoint=dict(every=0, keep=1),
    evaluation=dict(every=0, batches=0),
    log=dict(every=50, progress=False, tensorboard=False),
  )


def sample(count: int, seed: int, args, folder) -> pathlib.Path:
  """A file of `count` training sentences, half of either class."""
  path = folder / f"{count}-{seed}.tsv"
  with gzip.open(f"{args.shared}/glue/SST-2/train.tsv.gz", "rt") as file:
    head, *lines = file.read().splitlines()
  random = np.random.default_rng([seed, count])
  chosen = [
    line
    for label in "01"
    for line in random.choice(
      [line for line in lines if line.endswith(f"\t{label}")],
      count // 2,
      replace=False,
    )
  ]
  path.write_text("\n".join([head, *chosen]) + "\n", encoding="utf-8")
  return path


def results_of(args, folder) -> dict[str, dict[str, list[float]]]:
  """count -> arm -> accuracies, one a seed."""
  found: dict[str, dict[str, list[float]]] = {}
  for count in args.counts:
    found[str(count)] = {arm: [] for arm in ARMS}
    print(f"{count} examples ...", file=sys.stderr, flush=True)
    for seed in range(args.seeds):
      train = sample(count, seed, args, folder)
      for arm, share in ARMS.items():
        made = run.train(
          config_of(share, seed, train, args),
          folder / f"{count}-{seed}-{share}",
          report=lambda line: None,
          export=False,
        )
        found[str(count)][arm].append(made.metrics["accuracy"])
      if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found))
  return found


def table(found) -> str:
  """One row a number of examples."""
  lines = [f"| examples | {' | '.join(ARMS)} | ahead |", "|---|---|---|---|"]
  for count, arms in found.items():
    cells = [
      f"{statistics.fmean(v):.3f} ± {statistics.stdev(v):.3f}"
      for v in arms.values()
    ]
    plain, other = (np.array(v) for v in arms.values())
    ahead = f"{(other > plain).sum()} of {len(plain)}"
    if equal := (other == plain).sum():
      ahead += f", {equal} equal"
    lines.append(f"| {count} | {' | '.join(cells)} | {ahead} |")
  return "\n".join(lines)


def main(argv=None) -> None:
  """Tunes, measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--shared", required=True, help="the shared data")
  parser.add_argument("--start", required=True, help="of simcse.py")
  parser.add_argument("--counts", default="20,100,1000", help="examples")
  parser.add_argument("--steps", type=int, default=100)
  parser.add_argument("--learning-rate", type=float, default=5e-4)
  parser.add_argument("--seeds", type=int, default=10)
  parser.add_argument("--json", default="", help="where numbers are kept")
  args = parser.parse_args(argv)
  args.counts = [int(count) for count in args.counts.split(",")]
  begin = time.process_time()
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update("jax_compilation_cache_dir", f"{folder}/xla")
    found = results_of(args, pathlib.Path(folder))
  print(
    f"{_machine.named()}; {args.steps} steps of 16 rows, rate "
    f"{args.learning_rate}, {time.process_time() - begin:.0f} s of process time"
  )
  print(table(found))


if __name__ == "__main__":
  main()
