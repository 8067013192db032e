"""`make demo`: the main job, end to end, measured."""

import json
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from rich.console import Console

from jaxlm import configuration, loading
from jaxlm import run as runs
from jaxlm.demo import baseline, materials, page, preference
from jaxlm.evaluation import fill as filling
from jaxlm.evaluation import pseudo_likelihood

MOST_PAIRS = 400  # each costs about 40 forward rows a model
_PLAIN = re.compile(r"[a-z]{4,}")


class Filled(NamedTuple):
  """A held-out sentence with a hidden word.

  Attributes:
    text: with the mask in the word's place.
    word: what stood there.
    candidates: (token, probability), the likeliest first.
  """

  text: str
  word: str
  candidates: list[tuple[str, float]]


class Measured(NamedTuple):
  """What the demo measured; `page` shows it.

  Attributes:
    run: the run card of pre-training.
    losses: split -> masked-LM loss at the end, in nats a token.
    preference: 'trained' and 'untrained' -> share of real sentences that win.
    fills: filled masks of held-out sentences.
    modules: method -> accuracy on the module task.
    majority: accuracy of always naming the commonest module.
    difference: largest difference of logits after export and reloading.
    seconds: stage -> wall-clock seconds.
    counts: of the material.
  """

  run: dict[str, Any]
  losses: dict[str, float]
  preference: dict[str, preference.Preference]
  fills: list[Filled]
  modules: dict[str, baseline.Accuracy]
  majority: float
  difference: float
  seconds: dict[str, float]
  counts: dict[str, Any]


def demo(
  workdir="runs/demo",
  *,
  variant: str = "pretrain",
  finetune_steps: int | None = None,
  most_pairs: int = MOST_PAIRS,
) -> Measured:
  """Runs everything, prints one table and writes workdir/report.html.

  Args:
    workdir: where it works; what is finished there is not done again.
    variant: of configs/demo.py.
    finetune_steps: updates of each fine-tuning; the config's where None.
    most_pairs: sentence pairs to judge.

  Raises:
    UserError: a Python installation without its sources, or files in the way.
  """
  folder, console = pathlib.Path(workdir), Console()
  watch = _Watch(console)
  watch.begin("corpus", "Collecting the documentation of this Python")
  made = materials.write(folder / "material")
  watch.begin("pretraining", "Pre-training on it")
  trained = runs.train(_pretraining(made, variant), folder / "pretrained")
  loaded = loading.load(folder / "pretrained")
  untrained = _untrained(loaded)
  watch.begin("preference", "Does it prefer real sentences to swapped words?")
  pairs = made.pairs[:most_pairs]
  preferred = {
    "untrained": _preference(untrained, pairs),
    "trained": _preference(loaded, pairs),
  }
  fills = _fills(loaded, [p.real for p in pairs])
  watch.begin("finetuning", "Fine-tuning: which module is a docstring from?")
  modules = _modules(folder, made, loaded, untrained, finetune_steps)
  watch.end()
  card = json.loads((folder / "pretrained" / "run.json").read_text("utf-8"))
  measured = Measured(
    run=card,
    losses=_losses(folder / "pretrained", trained),
    preference=preferred,
    fills=fills,
    modules=modules,
    majority=made.majority,
    difference=float(trained.export["largest_difference"]),
    seconds=watch.seconds,
    counts=made.counts,
  )
  page.show(console, measured)
  path = page.write(folder / "report.html", measured, folder / "pretrained")
  console.print(f"\n[bold]{path}[/bold] shows the same with its curves.")
  return measured


class _Watch:
  """Wall-clock seconds of each stage, told as they begin."""

  def __init__(self, console):
    self.seconds: dict[str, float] = {}
    self._console, self._stage = console, None

  def begin(self, stage: str, what: str) -> None:
    self.end()
    self._stage, self._start = stage, time.monotonic()
    self._console.rule(f"[bold]{what}", align="left")

  def end(self) -> None:
    if self._stage:
      self.seconds[self._stage] = time.monotonic() - self._start


def _pretraining(made, variant):
  config = configuration.load(f"demo:{variant}")
  config.data.files = str(made.corpus["train"])
  config.data.validation_files = str(made.corpus["validation"])
  return config


def _untrained(loaded) -> loading.Loaded:
  """The same model with the parameters that training began with."""
  batch = {"inputs": np.zeros((1, 1), np.int32)}
  variables = jax.jit(loaded.model.init)(jax.random.key(0), batch)
  return loaded._replace(variables=nn.unbox(variables))


def _preference(loaded, pairs) -> preference.Preference:
  texts = [p.real for p in pairs] + [p.swapped for p in pairs]
  scores = pseudo_likelihood.pll(loaded, texts, rows=256)
  return preference.measure(scores[: len(pairs)], scores[len(pairs) :])


def _fills(loaded, sentences: Sequence[str], most: int = 6) -> list[Filled]:
  """Sentences with one common word hidden, and what the model expects."""
  mask = loaded.tokenizer.specials["mask"]
  chosen = []
  # Spread over all files, which stand in their order.
  for sentence in sentences[:: max(len(sentences) // (2 * most), 1)]:
    words = sentence.split()
    whole = [
      i
      for i, word in enumerate(words)
      if _PLAIN.fullmatch(word)
      and len(loaded.tokenizer.encode_batch([word])[0]) == 1
    ]
    if whole:
      place = whole[len(whole) // 2]
      hidden = " ".join(words[:place] + [mask] + words[place + 1 :])
      chosen.append((hidden, words[place]))
    if len(chosen) == most:
      break
  found = filling.fill(loaded, [text for text, _ in chosen], top=3)
  return [
    Filled(text, word, [(c.token, c.probability) for c in masks[0]])
    for (text, word), masks in zip(chosen, found)
  ]


def _modules(folder, made, loaded, untrained, steps):
  """Accuracy on the test files: pre-trained, from scratch, TF-IDF."""
  scratch = folder / "untrained"
  if not (scratch / loading.MODEL_FILE).exists():
    runs.save(
      scratch, loaded.spec, untrained.variables["params"], loaded.tokenizer
    )
  found = {}
  for name, start in (
    ("pre-trained", folder / "pretrained"),
    ("from scratch", scratch),
  ):
    config = configuration.load("demo:finetune")
    config.init_from = str(start)
    config.data.files = str(made.module["train"])
    config.data.validation_files = str(made.module["test"])
    if steps is not None:
      config.steps = steps
    place = folder / f"finetuned-{name.replace(' ', '-')}"
    result = runs.train(config, place, export=False)
    found[name] = baseline.accuracy(
      result.metrics["accuracy"], int(result.metrics["count"])
    )
  read = {split: _read(path) for split, path in made.module.items()}
  found["TF-IDF, logistic regression"] = baseline.tfidf(
    read["train"], read["validation"], read["test"]
  )
  return found


def _losses(workdir, trained) -> dict[str, float]:
  lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
  last = json.loads(lines[-1])
  return {"training": last["loss"], "validation": trained.metrics["loss"]}


def _read(path):
  lines = path.read_text(encoding="utf-8").splitlines()
  return [json.loads(line) for line in lines]
