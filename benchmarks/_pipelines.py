"""Feeding of every shipped config's data: tokens a second of one core."""

import importlib
import json
import pathlib
import time
from typing import NamedTuple

from jaxlm import configuration
from jaxlm.data import datasets


def reading(data: dict, text) -> dict:
  """`config.data`, or each of its sources, with a file to read and hold out."""
  if "sources" in data:
    sources = data["sources"].items()
    return data | {"sources": {k: reading(v, text) for k, v in sources}}
  if "share" in data:  # few lines of stories are as short as utterances
    data = data | dict(share=0.05)
  if "task" in data:
    names = dict(text="text", label="label", validation_files="")
    data, text = data | names, labelled(text, data["task"])
  return data | dict(files=str(text), validation_share=0.1)


def labelled(text, task: str) -> pathlib.Path:
  """A file of the lines of a text, with labels that mean nothing."""
  path = pathlib.Path(text).with_suffix(f".{task}.tsv")
  if not path.exists():
    lines = pathlib.Path(text).read_text(encoding="utf-8").splitlines()
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    rows = [f"{line}\t{len(line) % 2}" for line in lines]
    if task == "tagging":  # a word a line
      words = lambda line: [f"{w}\t{len(w) % 2}" for w in line.split()]
      rows = ["\n".join([*words(line), ""]) for line in lines]
    head = [] if task == "tagging" else ["text\tlabel"]
    path.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")
  return path


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
  """Names of configs with the same data -> the config of the first.

  Of each config its smallest variant.
  """
  same: dict[str, list] = {}
  for path in sorted(configuration.SHIPPED.glob("*.py")):
    sizes = getattr(importlib.import_module(f"configs.{path.stem}"), "SIZES", 0)
    if not sizes:
      continue
    variants = ["tiny"] if "tiny" in sizes else list(sizes)
    for variant in variants:
      name = path.stem if variant == "tiny" else f"{path.stem}:{variant}"
      config = configuration.load(f"{path.stem}:{variant}")
      config = configuration.complete(config)
      config["data"]["length"] = args.length
      if not config["tokenizer"]:  # that of the model that it starts from
        config["tokenizer"] = dict(kind="wordpiece")
      config["tokenizer"]["vocab_size"] = args.vocab_size
      key = json.dumps([config["data"], config["tokenizer"]], sort_keys=True)
      same.setdefault(key, []).append((name, config))
  return {", ".join(n for n, _ in some): some[0][1] for some in same.values()}
