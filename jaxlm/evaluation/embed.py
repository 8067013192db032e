"""Vectors of sentences, by a model's head or by pooling its states.

Poolings are those of SimCSE's release (Gao et al., arXiv:2104.08821) and of
sentence-transformers; 'first_last' is the usual baseline of models that were
not trained to embed (Su et al., arXiv:2103.15316).
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxlm import errors, files
from jaxlm.data import _sentence_rows
from jaxlm.evaluation import _model
from jaxlm.interop import layout, sentence_encoder
from jaxlm.layers import pooling as pooling_lib
from jaxlm.models import assembly

# Name -> how states of a sentence are pooled, and of which layers they are
# means; layers are counted as Python counts, the last has the final norm.
POOLINGS = {
  "cls": ("cls", (-1,)),
  "mean": ("mean", (-1,)),
  "first_last": ("mean", (0, -1)),
  "top2": ("mean", (-2, -1)),
}


class Embedded(NamedTuple):
  """Vectors of sentences.

  Attributes:
    vectors: float32 [sentences, width], not normalised.
    cut: how many sentences were cut.
  """

  vectors: np.ndarray
  cut: int


def sentences(source, column: str | int = "") -> list[str]:
  """The sentences of files, one a line, or of a column or field.

  Raises:
    UserError: nothing matches, or a row that does not fit.
  """
  columns = () if column == "" else (column,)
  layout_ = _sentence_rows.Layout(columns)
  return [row.texts[0] for row in _sentence_rows.read(source, "files", layout_)]


def embed(
  loaded,
  texts: Sequence[str],
  *,
  pooling: str = "",
  length: int = 0,
  rows: int = 64,
) -> Embedded:
  """A vector for each text.

  Args:
    loaded: a `jaxlm.loading.Loaded`, or alike with a `spec`.
    texts: the sentences.
    pooling: a name of `POOLINGS`; '' for the model's own head `embed`.
    length: tokens of a text, special ones included; longer ones are cut. 0
      for as many as the model has positions.
    rows: rows of a forward.

  Raises:
    UserError: no such pooling, a model without a head where none is named,
      or a length that leaves no room.
  """
  tokenizer = _model.require_tokenizer(loaded)
  run = _runner(loaded, pooling)
  ids, cut = _encoded(loaded, tokenizer, texts, length)
  parts = [
    (some, np.asarray(run(batch))[: len(some), 0])
    for some, batch in _batches(ids, tokenizer, rows)
  ]
  out = np.zeros((len(ids), parts[0][1].shape[-1]), np.float32)
  for some, vectors in parts:
    out[some] = vectors
  return Embedded(out, cut)


def tokens(
  loaded, texts: Sequence[str], *, length: int = 0, rows: int = 64
) -> list[np.ndarray]:
  """Last states of each text's tokens, brackets left out, float32 [n, width].

  Raises:
    UserError: no text, or a length that leaves no room.
  """
  tokenizer = _model.require_tokenizer(loaded)
  ids, _ = _encoded(loaded, tokenizer, texts, length)
  static = _model.Static(loaded.model)
  variables = _model.on_device(loaded.variables)
  front = tokenizer.front
  back = tokenizer.overhead() - front
  found: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(ids)
  for some, batch in _batches(ids, tokenizer, rows):
    hidden = _model.apply_head(static, "hidden", variables, batch)
    for owner, states in zip(some, np.asarray(hidden, np.float32)):
      found[owner] = states[front : len(ids[owner]) - back]
  return found


def _encoded(loaded, tokenizer, texts, length):
  """Bracketed ids of each text, and how many were cut."""
  if not len(texts):
    raise errors.UserError("There is no sentence to embed.")
  longest = _longest(loaded.model.positions.longest(), length, tokenizer)
  found = tokenizer.encode_batch(list(texts))
  room = None if longest is None else longest - tokenizer.overhead()
  ids = [_model.framed(tokenizer, row[:room])[0] for row in found]
  cut = 0 if room is None else sum(len(row) > room for row in found)
  return ids, cut


def _batches(ids, tokenizer, rows):
  """(which texts, their batch), rows of like length together."""
  longest = max(map(len, ids))
  for size, owners in _model.buckets([len(r) for r in ids], longest).items():
    count = min(rows, _model.bucket(len(owners)))
    for some in _model.chunks(owners, count):
      batch = _model.padded(
        [ids[o] for o in some], count, size, tokenizer.pad_id
      )
      places = [tokenizer.summary_position(ids[o]) for o in some]
      places += [0] * (count - len(some))
      batch["cls_positions"] = np.array(places, np.int32)[:, None]
      yield list(some), batch


def check_free(out) -> None:
  """Raises UserError where a file of vectors cannot be written."""
  out = pathlib.Path(out)
  if out.suffix != ".npy":
    raise errors.UserError(f"out: {out} is an array, so its name ends in .npy.")
  if out.exists():
    raise errors.UserError(
      f"out: {out} exists; remove it or name another file."
    )


def write(out, vectors: np.ndarray) -> None:
  """Writes vectors as .npy, whole or not at all.

  Raises:
    UserError: the file exists, or its name does not end in .npy.
  """
  check_free(out)
  with files.replacing(out, "wb") as file:
    np.save(file, vectors)


def _longest(positions, length, tokenizer):
  """Tokens of a row at most; None for no limit."""
  if length and length <= tokenizer.overhead():
    raise errors.UserError(
      f"length is {length}; it leaves no room for text beside "
      f"{tokenizer.overhead()} special tokens."
    )
  known = [n for n in (positions, length) if n]
  return min(known) if known else None


def _runner(loaded, pooling):
  """batch -> vectors [rows, 1, width]."""
  head = sentence_encoder.head_of(loaded.spec)
  if pooling and pooling not in POOLINGS:
    raise errors.unknown("There is no pooling", pooling, POOLINGS)
  if not pooling and not head:
    raise errors.UserError(
      f"{loaded.source} holds a model without a head of kind 'embed', so how "
      f"to embed is unknown: name a pooling ({', '.join(POOLINGS)}), or train "
      "it first (configs/simcse.py)."
    )
  if not pooling:
    static = _model.Static(loaded.model)
    variables = _model.on_device(loaded.variables)
    return functools.partial(_model.apply_head, static, head, variables)
  model, variables = _bare(loaded)
  return functools.partial(_pooled, _model.Static(model), pooling, variables)


def _bare(loaded):
  """The model without heads, its layers one by one, and its variables."""
  if "towers" in loaded.spec:
    raise errors.UserError(
      f"{loaded.source} holds a model of several models; poolings read "
      "encoders and decoders of one."
    )
  spec = {**loaded.spec, "heads": {}}
  arrays = layout.flat(loaded.variables["params"], loaded.spec)
  kept = {p: a for p, a in arrays.items() if not p.startswith("heads_")}
  if layout.stack_kind(spec) == layout.SCANNED:
    spec["stack"] = dict(kind=layout.UNROLLED)
  params = layout.tree(kept, spec)
  dtype = loaded.model.embeddings.dtype
  return assembly.build(spec, dtype=dtype), _model.on_device({"params": params})


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pooled(static, pooling, variables, batch):
  """Means over layers of pooled states, [rows, 1, width]."""
  how, layers = POOLINGS[pooling]
  outputs, kept = static.model.apply(
    variables,
    batch,
    train=False,
    capture=frozenset(["hidden"]),
    mutable=["intermediates"],
  )
  states = [*kept["intermediates"]["stack"]["hidden"]]
  states[-1] = outputs["hidden"]
  if len(states) < 2:
    layers = (-1,)
  places = (batch["segments"], batch["cls_positions"])
  pooled = [pooling_lib.pool(states[n], *places, how) for n in layers]
  return sum(pooled) / len(pooled)
