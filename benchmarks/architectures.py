"""Every architecture at equal parameters, data and tokens: loss and cost.

  python -m benchmarks.architectures --files=corpus.txt --json=a.json
  python -m benchmarks.architectures --race=next_token --files=corpus.txt

Contenders of a race are the `tiny` models of all configs of its kinds. Each
gets the same width, fresh weights of the same deviation, no dropout, and
feed-forwards (an LSTM: cells) as wide as it takes to reach `--parameters`; the
same objective, the same rows (running text, so that parts that must not see
packed documents can take part), the same optimizer and the same rates to
choose from. A constant rate after the warm-up, so that the loss on the way is
the loss of a shorter run. Losses of two races do not compare.
"""

import argparse
import dataclasses
import importlib
import inspect
import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks import _machine, _training
from configs import common
from jaxlm import configuration, errors, paths, recipe
from jaxlm.data import datasets
from jaxlm.models import assembly

WITHOUT_SIZES = ("demo", "common", "__init__")
WIDTH = 64
ROWS = ("packed", "noted")  # kinds of data whose rows can be those of others


@dataclasses.dataclass(frozen=True)
class Race:
  """What its contenders have in common.

  Attributes:
    kinds: of models.
    objective, head: their kinds.
    corruption, arrangement: kinds of parts, with their fields.
    tokenizer: fields.
    own: kinds of models that keep their objective and heads.
  """

  kinds: tuple[str, ...]
  objective: str
  head: str
  corruption: dict
  arrangement: dict
  tokenizer: dict
  own: tuple[str, ...] = ()


_BLOCKS, _WORDS = dict(kind="blocks", unit="tokens"), dict(kind="wordpiece")
RACES = {
  "masked_lm": Race(
    kinds=("encoder", "mask_decoding_encoder", "note_taking_encoder"),
    objective="masked_lm",
    head="masked_lm",
    corruption=dict(kind="masking", rate=0.15),
    arrangement=_BLOCKS,
    tokenizer=_WORDS,
  ),
  "next_token": Race(
    kinds=("decoder", "bidirectional_lm"),
    objective="causal_lm",
    head="causal_lm",
    corruption=dict(kind="causal"),
    arrangement=_BLOCKS,
    tokenizer=_WORDS,
    own=("bidirectional_lm",),
  ),
  "seq2seq": Race(
    kinds=("encoder_decoder",),
    objective="seq2seq",
    head="seq2seq_lm",
    corruption=dict(kind="span_corruption"),
    arrangement=dict(kind="stream"),
    tokenizer=dict(kind="unigram", template="t5", sentinels=16),
  ),
}


def names(race: Race) -> list[str]:
  """Configs whose `tiny` model is of the race; of equal ones the first."""
  found, seen = [], []
  shipped = (path.stem for path in configuration.SHIPPED.glob("*.py"))
  for name in sorted(shipped, key=lambda name: (_built_on(name), name)):
    sizes = getattr(_module(name), "SIZES", {})
    if "tiny" not in sizes or name in WITHOUT_SIZES:
      continue
    config = configuration.complete(_tiny(name))
    if config["model"]["kind"] not in race.kinds:
      continue
    if config["data"]["kind"] not in ROWS:
      continue
    model = _model(config, race)
    if model not in seen:
      found.append(name)
      seen.append(model)
  return sorted(found)


def _module(name: str):
  return importlib.import_module(f"configs.{name}")


def _built_on(name: str) -> int:
  """How many other configs a config starts from."""
  members = vars(_module(name)).values()
  return sum(inspect.ismodule(m) and hasattr(m, "SIZES") for m in members)


def _tiny(name: str):
  config = configuration.load(f"{name}:tiny")
  common.steady(config.model)
  return config


def _model(config: dict, race: Race) -> dict:
  """The model as all of a race have it."""
  model = dict(config["model"], width=WIDTH)
  for key in ("vocab_size", "encoder_heads"):
    model.pop(key, None)
  if "stack" in model:
    model["stack"] = dict(model["stack"])
    model["stack"].pop("remat", None)
  if model["kind"] not in race.own:
    head = model["heads"].get(race.head, dict(kind=race.head))
    model["heads"] = {race.head: head}
  return model


def config_of(name: str, race: Race, args) -> dict:
  """The config of one contender, all but its width of feed-forwards."""
  config = configuration.complete(_tiny(name))
  model = _model(config, race)
  own = model["kind"] in race.own
  return config | dict(
    steps=args.steps,
    batch_size=args.rows,
    microbatches=1,
    clip_norm=1.0,
    data=_data(config, race, args),
    tokenizer=race.tokenizer | dict(vocab_size=args.vocabulary),
    model=model,
    objective=config["objective"] if own else dict(kind=race.objective),
    optimizer=dict(kind="adamw", b2=0.98, eps=1e-6, weight_decay=0.01)
    | dict(learning_rate=args.rates[0]),
    schedule=dict(kind="constant", warmup=0.1),
  )


def _data(config, race, args) -> dict:
  """The same rows for all; a kind of data may add to them (notes)."""
  return config["data"] | dict(
    files=args.files,
    length=args.length,
    validation_share=0.1,
    arrangement=race.arrangement,
    corruption=race.corruption,
  )


def widened(model: dict, hidden: int) -> dict:
  """The model with feed-forwards or cells of this width, where it has any."""
  if "towers" in model:
    towers = {k: widened(v, hidden) for k, v in model["towers"].items()}
    return model | dict(towers=towers)
  layers = {
    name: {slot: _resized(part, hidden) for slot, part in layer.items()}
    for name, layer in model["layers"].items()
  }
  return model | dict(layers=layers)


def _resized(part, hidden: int):
  if not isinstance(part, dict):
    return part
  return part | {k: hidden for k in ("hidden", "cells") if k in part}


def fitted(model: dict, wanted: int, vocab_size: int) -> tuple[dict, int]:
  """The model nearest to a number of parameters, and its number."""

  def size(hidden):
    spec = widened(model, hidden) | dict(vocab_size=vocab_size)
    return paths.count(recipe.shapes(assembly.build(spec)))

  low, high = 1, 256  # times 16, which all groups and blocks divide
  while low < high:
    middle = (low + high) // 2
    low, high = (
      (middle + 1, high) if size(16 * middle) < wanted else (low, middle)
    )
  near = (16 * max(low - 1, 1), 16 * low)
  hidden = min(near, key=lambda h: abs(size(h) - wanted))
  return widened(model, hidden), size(hidden)


def prepare(name: str, race: Race, args, folder: pathlib.Path):
  """The config of one contender, its data and its number of parameters."""
  config = config_of(name, race, args)
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


def run(name: str, race: Race, args, folder: pathlib.Path) -> dict:
  """Trains one contender on all seeds, at the best of the rates."""
  config, prepared, size = prepare(name, race, args, folder)
  return dict(
    name=name,
    parameters=size,
    unigram=_training.unigram_entropy(prepared.train, 64),
    **_training.tuned(config, prepared, args, args.rates),
  )


def timed(results: list[dict], race: Race, args, folder) -> None:
  """Adds to each the `seconds` a step of every round of a race."""
  runners = {}
  for r in results:
    config, prepared, _ = prepare(r["name"], race, args, folder)
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
  parser.add_argument("--race", default="masked_lm", choices=sorted(RACES))
  parser.add_argument("--names", default="", help="configs, with commas")
  parser.add_argument("--parameters", type=int, default=250_000)
  parser.add_argument("--vocabulary", type=int, default=1024)
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
  race = RACES[args.race]
  known = names(race)
  wanted = args.names.split(",") if args.names else known
  for name in wanted:
    if name not in known:
      raise SystemExit(
        str(errors.unknown("No config of this race is", name, known))
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
      results.append(run(name, race, args, folder))
      if kept:
        kept.write_text(json.dumps(results))
    raced = [r for r in results if r["name"] in wanted]
    timed(raced, race, args, folder)
  if kept:
    kept.write_text(json.dumps(results))
  print(
    f"{_machine.named()}; {args.race}, {args.steps} steps of "
    f"{args.rows} x {args.length} tokens, {args.seeds} seeds"
  )
  print(table(raced, args))
  print(f"Entropy of single tokens: {raced[0]['unigram']:.3f} nats.")


if __name__ == "__main__":
  main()
