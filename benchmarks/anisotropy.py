"""Does contrast in pre-training keep states apart? TaCL against masked LM.

  python -m benchmarks.simcse ... --workdir=DIR     # makes DIR/start
  python -m benchmarks.anisotropy --shared=../shared/data --start=DIR/start

From the same start, on each seed, masked LM goes on with and without TaCL, on
the same rows, at equal steps and at equal rate. Told are the mean cosine of
the tokens of a sentence (TaCL's self-similarity), the mean cosine of sentence
vectors, Spearman on STS-B's development set by means, and the held-out loss.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import jax

from benchmarks import _machine, simcse
from jaxlm import loading, run
from jaxlm.evaluation import embed, geometry, similarity

ARMS = {
  "masked LM goes on": dict(kind="masked_lm"),
  "TaCL": dict(kind="tacl", base=dict(kind="masked_lm")),
}
KEYS = ("self_similarity", "mean_cosine", "spearman", "masked_lm")


def config_of(objective, seed, args) -> dict:
  """What goes on from the start."""
  defaults = simcse.arguments(["--shared", args.shared])
  config = simcse.start_config(defaults)
  # The small part of WikiText-2: each run reads and packs it anew.
  small = f"{args.shared}/text/wikitext-2/valid.txt.gz"
  config["data"] |= dict(files=small, validation_share=0.1)
  return config | dict(
    seed=seed,
    init_from=args.start,
    steps=args.steps,
    tokenizer={},
    model=dict(heads=config["model"]["heads"]),
    objective=objective,
    optimizer=dict(config["optimizer"], learning_rate=args.learning_rate),
  )


def measured(checkpoint, args) -> dict[str, float]:
  """Geometry and scores."""
  loaded = loading.load(checkpoint)
  files = f"{args.shared}/glue/STS-B/dev.tsv.gz"
  texts = similarity.read(files)[0][:500]
  states = embed.tokens(loaded, texts, length=64)
  scores = similarity.evaluate(loaded, files, pooling="mean", length=64)
  return {
    "self_similarity": geometry.self_similarity(states),
    "mean_cosine": scores["mean_cosine"],
    "spearman": scores["spearman"],
  }


def told(arm: str, config, place, args) -> dict[str, float]:
  """Trains in a folder; `measured`, and the metrics on held-out data."""
  print(f"{arm}, seed {config['seed']} ...", file=sys.stderr, flush=True)
  made = run.train(config, place, report=lambda line: None, export=False)
  masked = {"masked_lm": made.metrics["loss/masked_lm"]}
  return {**made.metrics, **measured(place, args), **masked}


def main(argv=None) -> None:
  """Trains, measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--shared", required=True, help="the shared data")
  parser.add_argument("--start", required=True, help="of simcse.py")
  parser.add_argument("--steps", type=int, default=60)
  parser.add_argument("--learning-rate", type=float, default=5e-4)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--json", default="", help="where numbers are kept")
  args = parser.parse_args(argv)
  folder = pathlib.Path(tempfile.mkdtemp(prefix="anisotropy-"))
  jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
  begin = time.process_time()
  found = {"start": [measured(args.start, args)]}
  for arm, objective in ARMS.items():
    found[arm] = []
    for seed in range(args.seeds):
      config = config_of(objective, seed, args)
      found[arm].append(told(arm, config, folder / f"{arm[0]}{seed}", args))
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(found))
  print(
    f"{_machine.named()}; {args.steps} steps, "
    f"{time.process_time() - begin:.0f} s of process time"
  )
  print(table(found))


def table(found, keys=KEYS) -> str:
  """One row an arm: means and standard deviations over seeds."""
  lines = [f"| arm | {' | '.join(keys)} |", "|---" * (1 + len(keys)) + "|"]
  for arm, all_ in found.items():
    cells = []
    for key in keys:
      values = [one[key] for one in all_ if key in one]
      spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
      cells.append(f"{statistics.fmean(values):.3f}{spread}" if values else "")
    lines.append(f"| {arm} | {' | '.join(cells)} |")
  return "\n".join(lines)


if __name__ == "__main__":
  main()
