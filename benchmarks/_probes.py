"""What a pre-trained model knows, asked without training it any further.

Frozen states of the last layer, and a logistic regression over them: word
classes (the first piece of each word of Universal Dependencies' EWT) and
sentiment (means over the pieces of SST-2's sentences).
"""

import gzip
import pathlib

import flax.linen as nn
import jax
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxlm.evaluation import _model
from jaxlm.models import assembly, models

_LENGTH, _ROWS = 64, 128
_MOST = 2000  # steps of a regression, several times what they take


class Reader:
  """States of texts of one trained model.

  Attributes:
    tokenizer: of its training.
  """

  def __init__(self, spec, params, tokenizer):
    part = models.entry(spec["kind"]).build
    params = nn.meta.unbox(params)
    if hasattr(part, "exported"):  # what is left after pre-training
      spec, params = part.exported(spec, params)
    model = assembly.build(spec)
    self.tokenizer = tokenizer
    self._params = jax.tree.map(jax.numpy.asarray, params)
    self._hidden = jax.jit(
      lambda params, batch: model.apply({"params": params}, batch)["hidden"]
    )

  def states(self, rows: list[list[int]]):
    """Yields [tokens, width] float32 of each row of ids."""
    for some in _model.chunks(rows, _ROWS):
      batch = _model.padded(some, _ROWS, _LENGTH, self.tokenizer.pad_id)
      hidden = np.asarray(self._hidden(self._params, batch), np.float32)
      for row, states in zip(some, hidden):
        yield states[: len(row)]


def word_classes(reader: Reader, folder: pathlib.Path) -> float:
  """Accuracy of universal word classes on every third sentence of EWT dev."""
  rows, places, tags = [], [], []
  for words in _sentences(folder / "tagging/ud-ewt/en_ewt-ud-dev.conllu.gz"):
    ids, starts, found = [], [], []
    pieces = reader.tokenizer.encode_batch([word for word, _ in words])
    for piece, (_, tag) in zip(pieces, words):
      if piece:
        starts.append(len(ids))
        found.append(tag)
        ids += piece
    whole, first = _model.framed(reader.tokenizer, ids)
    if ids and len(whole) <= _LENGTH:
      rows.append(whole)
      places.append(first + np.array(starts))
      tags.append(found)
  states = [s[at] for s, at in zip(reader.states(rows), places)]
  return _score(states, tags, [i % 3 == 0 for i in range(len(rows))])


def sentiment(reader: Reader, folder: pathlib.Path, most: int = 6000) -> float:
  """Accuracy on SST-2 dev, of the first `most` training sentences."""
  rows, labels, held_out = [], [], []
  for part in ("train", "dev"):
    lines = _lines(folder / f"glue/SST-2/{part}.tsv.gz")[1:]
    texts, found = zip(*(line.split("\t") for line in lines[:most]))
    for ids, label in zip(reader.tokenizer.encode_batch(texts), found):
      rows.append(_model.framed(reader.tokenizer, ids[: _LENGTH - 2])[0])
      labels.append([label])
      held_out.append(part == "dev")
  states = [s.mean(axis=0, keepdims=True) for s in reader.states(rows)]
  return _score(states, labels, held_out)


def _score(states, labels, held_out) -> float:
  held_out = np.repeat(held_out, [len(x) for x in labels])
  states, labels = np.concatenate(states), np.concatenate(labels)
  model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST))
  model.fit(states[~held_out], labels[~held_out])
  return float(model.score(states[held_out], labels[held_out]))


def _sentences(path):
  """Yields [(form, universal class)] of each sentence of a CoNLL-U file."""
  words = []
  for line in _lines(path):
    cells = line.split("\t")
    if len(cells) == 10 and cells[0].isdigit():
      words.append((cells[1], cells[3]))
    elif not line and words:
      yield words
      words = []


def _lines(path) -> list[str]:
  with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
    return file.read().split("\n")[:-1]
