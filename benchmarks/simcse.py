"""SimCSE's claim at small scale: STS-B before and after, alignment, uniformity.

  python -m benchmarks.simcse --shared=../shared/data --json=s.json \
      --plot=docs/simcse.png

A small BERT learns masked LM on WikiText-2; from it start, on each seed,
unsupervised SimCSE on sentences of Wikipedia and supervised SimCSE on NLI
triplets. Both pool means, for nothing taught this start to read [CLS]; with
--control, as many further steps of masked LM on the same sentences are told
beside them. The last state counts: nothing is selected on STS-B. Numbers are of
STS-B's development set (1,500 pairs, no test labels here). Alignment is of
pairs scored 4 and above, uniformity of all distinct sentences. What is done is
kept in --workdir and not done again.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import jax

from benchmarks import _machine
from jaxlm import configuration, loading, run
from jaxlm.evaluation import similarity

KEYS = ("spearman", "alignment", "uniformity", "mean_cosine")
BEFORE = {
  "masked LM, [CLS]": dict(pooling="cls"),
  "masked LM, mean": dict(pooling="mean"),
  "masked LM, first and last": dict(pooling="first_last"),
  "masked LM, first and last, whitened": dict(
    pooling="first_last", map="whitening"
  ),
  "masked LM, first and last, flow": dict(pooling="first_last", map="flow"),
}
CONTROL = "masked LM goes on, mean"
ARMS = ("SimCSE, unsupervised", "SimCSE, supervised", CONTROL)
_QUIET = dict(every=50, progress=False, tensorboard=False)
_HIDDEN = dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1)


def start_config(args) -> dict:
  """Masked LM from nothing."""
  config = configuration.complete(configuration.load("bert:tiny"))
  model = config["model"]
  model |= dict(
    width=args.width,
    depth=args.layers,
    dropout=0.1,
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=args.width**-0.5 / 2, truncated=True),
  )
  model["layers"]["layer"]["mixer"] |= dict(heads=4, dropout=0.1)
  model["layers"]["layer"]["feedforward"]["hidden"] = 4 * args.width
  return config | dict(
    steps=args.steps,
    batch_size=args.rows,
    model=model,
    clip_norm=1.0,
    objective=dict(kind="masked_lm"),
    data=dict(
      kind="packed",
      files=f"{args.shared}/text/wikitext-2/train.txt.gz",
      documents="line",
      arrangement=dict(kind="documents"),
      length=64,
      validation_share=0.02,
      corruption=_HIDDEN,
    ),
    tokenizer=dict(config["tokenizer"], vocab_size=args.vocabulary),
    optimizer=dict(
      kind="adamw",
      learning_rate=args.learning_rate,
      b2=0.98,
      eps=1e-6,
      weight_decay=0.01,
    ),
    schedule=dict(kind="linear", warmup=0.1),
    checkpoint=dict(every=0, keep=1),
    evaluation=dict(every=0, batches=8),
    log=_QUIET,
  )


def arm_config(arm: str, seed: int, start, args) -> dict:
  """What goes on from the start."""
  supervised = "unsupervised" not in arm
  name = "simcse:supervised" if supervised else "simcse:unsupervised"
  config = configuration.complete(configuration.load(name))
  sentences = f"{args.shared}/simcse/wiki-sentences.txt.gz"
  triplets = f"{args.shared}/simcse/nli-triplets.csv.gz"
  config |= dict(
    seed=seed,
    init_from=str(start),
    steps=args.tuning_steps,
    batch_size=args.rows,
    checkpoint=dict(every=max(args.tuning_steps // 3, 1), keep=3),
    log=_QUIET,
  )
  config["optimizer"] |= dict(learning_rate=args.tuning_rate)
  config["data"] |= dict(files=triplets if supervised else sentences)
  config["model"]["heads"]["embed"] |= dict(pooling="mean", projection="none")
  if arm != CONTROL:
    return config
  plain = start_config(args)
  config |= {key: plain[key] for key in ("objective", "data")}
  config["data"] |= dict(files=sentences, validation_share=0.0)
  return config | dict(model=dict(heads=plain["model"]["heads"]))


def trained(config, folder) -> float:
  """Trains unless it is done; seconds of the process."""
  note = folder / "seconds.json"
  if note.exists():
    return json.loads(note.read_text())
  print(f"{folder.name} ...", file=sys.stderr, flush=True)
  begin = time.process_time()
  run.train(config, folder, report=lambda line: None, export=False)
  seconds = time.process_time() - begin
  note.write_text(json.dumps(seconds))
  return seconds


def measured(checkpoint, args, **how) -> dict[str, float]:
  """Scores and geometry of a checkpoint on STS-B."""
  found = similarity.evaluate(
    loading.load(checkpoint),
    f"{args.shared}/glue/STS-B/dev.tsv.gz",
    length=64,
    **how,
  )
  return {key: found[key] for key in KEYS}


def results_of(args, folder) -> dict:
  """Everything that is told."""
  start = folder / "start"
  found = {"seconds": {"start": trained(start_config(args), start)}}
  last = (start / "metrics.jsonl").read_text().splitlines()[-1]
  found["masked_lm"] = json.loads(last)["validation/loss/masked_lm"]
  found["before"] = {n: measured(start, args, **h) for n, h in BEFORE.items()}
  arms = ARMS if args.control else ARMS[:2]
  found["after"], found["way"] = {arm: [] for arm in arms}, {}
  for arm in arms:
    for seed in range(args.seeds):
      config = arm_config(arm, seed, start, args)
      place = folder / f"{ARMS.index(arm)}-{seed}"
      found["seconds"][place.name] = trained(config, place)
      how = dict(pooling="mean") if arm == CONTROL else {}
      found["after"][arm].append(measured(place, args, **how))
      if seed == 0 and arm != CONTROL:
        steps = sorted(int(p.name) for p in (place / "checkpoints").iterdir())
        found["way"][arm] = [
          measured(place / "checkpoints" / str(step), args) for step in steps
        ]
  return found


def table(found) -> str:
  """One row a way to embed."""
  lines = [f"| vectors | {' | '.join(KEYS)} |", "|---" * 5 + "|"]
  for name, one in found["before"].items():
    cells = [f"{one[key]:.3f}" for key in KEYS]
    lines.append(f"| {name} | {' | '.join(cells)} |")
  for name, all_ in found["after"].items():
    cells = []
    for key in KEYS:
      values = [one[key] for one in all_]
      spread = statistics.stdev(values) if len(values) > 1 else 0.0
      cells.append(f"{statistics.fmean(values):.3f} ± {spread:.3f}")
    lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def plot(found, path) -> None:
  """Alignment over uniformity, lower is better for both; colour: Spearman."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7.5, 5))
  points = list(found["before"].items())
  points += [(arm, one) for arm, all_ in found["after"].items() for one in all_]
  column = lambda key: [one[key] for _, one in points]
  dots = axes.scatter(
    column("uniformity"),
    column("alignment"),
    c=column("spearman"),
    s=60,
    zorder=2,
  )
  for arm, way in found["way"].items():
    xs, ys = ([one[k] for one in way] for k in ("uniformity", "alignment"))
    axes.plot(xs, ys, lw=1, color="grey", zorder=1)
    axes.scatter(
      xs, ys, s=12, color="grey", zorder=1, label=f"{arm}: on the way"
    )
  named, middle = set(), statistics.fmean(column("uniformity"))
  for name, one in points:
    if name not in named:
      named.add(name)
      place = (one["uniformity"], one["alignment"])
      right = place[0] > middle
      axes.annotate(
        name,
        place,
        xytext=(-7 if right else 7, 5 if len(named) % 2 else -11),
        ha="right" if right else "left",
        textcoords="offset points",
        fontsize=8,
      )
  axes.set_xlabel("uniformity (lower: more even)")
  axes.set_ylabel("alignment of pairs scored 4 and above (lower: closer)")
  figure.colorbar(dots, label="Spearman on STS-B dev")
  figure.tight_layout()
  figure.savefig(path, dpi=120)


def arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--shared", required=True, help="the shared data")
  parser.add_argument("--width", type=int, default=128)
  parser.add_argument("--layers", type=int, default=2)
  parser.add_argument("--rows", type=int, default=64)
  parser.add_argument("--vocabulary", type=int, default=3000)
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--learning-rate", type=float, default=2e-3)
  parser.add_argument("--tuning-steps", type=int, default=60)
  parser.add_argument("--tuning-rate", type=float, default=3e-4)
  parser.add_argument("--control", action="store_true")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--workdir", default="", help="default: a new folder")
  parser.add_argument("--json", default="", help="where numbers are kept")
  parser.add_argument("--plot", default="", help="a .png")
  return parser.parse_args(argv)


def main(argv=None) -> None:
  """Runs all arms and prints the table."""
  args = arguments(argv)
  folder = pathlib.Path(args.workdir or tempfile.mkdtemp(prefix="simcse-"))
  folder.mkdir(parents=True, exist_ok=True)
  # Seeds and checkpoints differ in numbers alone.
  jax.config.update("jax_compilation_cache_dir", str(folder.resolve() / "xla"))
  found = results_of(args, folder)
  if args.json:
    pathlib.Path(args.json).write_text(json.dumps(found))
  if args.plot:
    plot(found, args.plot)
  seconds = sum(found["seconds"].values())
  print(
    f"{_machine.named()}; {args.layers} layers, width {args.width}, "
    f"{args.steps} steps of masked LM (held-out loss "
    f"{found['masked_lm']:.3f}), then {args.tuning_steps} steps of "
    f"{args.rows} rows; {seconds:.0f} s of process time in training"
  )
  print(table(found))


if __name__ == "__main__":
  main()
