"""Feeding of every shipped config's data: tokens a second of one core."""

import importlib
import json
import pathlib
import time
from typing import NamedTuple

from jaxlm import configuration
from jaxlm.data import datasets

# Kinds of data that are made of plain text.
TEXT = ("packed", "mixture", "noted", "variation_sets", "word_vectors")
FED = (*TEXT, "sentences", "spans")


def reading(data: dict, text) -> dict:
  """`config.data`, or each of its sources, with a file to read and hold out."""
  if "sources" in data:
    sources = data["sources"].items()
    return data | {"sources": {k: reading(v, text) for k, v in sources}}
  if "share" in data:  # few lines of stories are as short as utterances
    data = data | dict(share=0.05)
  return data | dict(files=str(text), validation_share=0.1)


class Feed(NamedTuple):
  """A second of CPU time, of all threads together.

  Attributes:
    tokens: that are no padding.
    places: all, which a step computes alike.
  """

  tokens: float
  places: float


def feeds(folder: pathlib.Path, text, args) -> dict[str, list[Feed]]:
  """{configs: [a feed of each repetition]}.

  Configs with the same data are one pipeline. Vocabularies and caches are
  made before the clock runs.
  """
  found = {}
  for name, config in _pipelines(args).items():
    made = datasets.build(reading(config["data"], text)).prepare(
      tokenizer=config["tokenizer"],
      workdir=folder / name.split(",")[0],
      batch_size=args.batch_size,
      seed=0,
      report=lambda line: None,
    )
    found[name] = [fed(made.train, turn, args.steps) for turn in args.turns]
  return found


def fed(task, seed: int, steps: int) -> Feed:
  """What some batches hold, by the time that they take."""
  task.batch_at(seed, 0)
  tokens, places, started = 0, 0, time.process_time()
  for step in range(1, steps + 1):
    batch = task.batch_at(seed, step)
    for key in ("segments", "decoder_segments"):
      if key in batch:
        tokens += int((batch[key] > 0).sum())
        places += batch[key].size
  seconds = time.process_time() - started
  return Feed(tokens / seconds, places / seconds)


def _pipelines(args) -> dict[str, dict]:
  """Names of configs with the same data -> the config of the first."""
  same: dict[str, list] = {}
  for path in sorted(configuration.SHIPPED.glob("*.py")):
    module = importlib.import_module(f"configs.{path.stem}")
    if "tiny" not in getattr(module, "SIZES", {}):
      continue
    config = configuration.complete(configuration.load(f"{path.stem}:tiny"))
    if config["data"]["kind"] in FED:
      config["data"]["length"] = args.length
      config["tokenizer"]["vocab_size"] = args.vocab_size
      key = json.dumps([config["data"], config["tokenizer"]], sort_keys=True)
      same.setdefault(key, []).append((path.stem, config))
  return {", ".join(n for n, _ in some): some[0][1] for some in same.values()}
