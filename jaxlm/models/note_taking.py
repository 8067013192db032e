"""An encoder that takes notes on rare words (TNF).

A note is a running average of the states around a word's occurrences. It lies
in the collection `notes`, which is no parameter: no gradient, no optimizer.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.models import assembly, models
from jaxlm.models.encoder import Encoder

COLLECTION = "notes"
_STD = 0.02  # of notes of which nothing was seen, as wide as fresh tables


@models.register("note_taking_encoder", paper="arXiv:2008.01466")
class NoteTakingEncoder(Encoder):
  """The encoder; rows of rare words are mixed with what was noted of them.

  With x the sum of token and position rows, an occurrence of word w reads
  (1 - share) x + share notes[w]. After a training step's forward pass, with m
  the mean of the states from `reach` tokens before the word to `reach` after
  it, inside its document, averaged over its occurrences in the batch,
  notes[w] becomes (1 - rate) notes[w] + rate m. Without `note_ids` in the
  batch (fine-tuning) it is the encoder, bit by bit, and so it is exported.
  Microbatches take notes one after the other. In a config these fields stand
  under `notes`.

  Attributes:
    words: rows of the dictionary.
    share: lambda of the paper.
    rate: gamma of the paper.
    reach: k of the paper, tokens.
  """

  words: int = 1
  share: float = 0.5
  rate: float = 0.1
  reach: int = 16

  # What it reads of a batch, each with the setting that makes data give it, and
  # that its outputs hold `updates`, which the next step starts from.
  features = {
    "note_ids": "config.data.kind='noted'",
    "note_spans": "config.data.kind='noted'",
  }
  updates = True

  @classmethod
  def assemble(cls, spec: Mapping[str, Any], *, dtype=jnp.float32, **given):
    """The model of an encoder's spec with dict(notes=dict(words=...)).

    Raises:
      UserError: a field of `notes` that is unknown or out of range, and what
        is wrong with the encoder's spec.
    """
    notes = dict(spec.get("notes", {}))
    _check(notes)
    plain = assembly.build(_plain(spec), dtype=dtype, **given)
    fields = {
      field.name: getattr(plain, field.name)
      for field in dataclasses.fields(Encoder)
      if field.name not in ("parent", "name")
    }
    return cls(**fields, **notes)

  @staticmethod
  def exported(spec: Mapping[str, Any], params):
    """The spec and parameters of the encoder; notes are for training."""
    return _plain(spec), params

  def setup(self):
    super().setup()
    if self.is_initializing() or self.has_variable(COLLECTION, "table"):
      self.table = self.variable(COLLECTION, "table", self._fresh)
      self.uses = self.variable(
        COLLECTION,
        "uses",
        primitives.partitioned(jnp.zeros, ("vocab",)),
        (self.words,),
        jnp.int32,
      )

  def _fresh(self):
    draw = primitives.partitioned(
      nn.initializers.normal(_STD), ("vocab", "embed")
    )
    shape = (self.words, self.embeddings.features)
    return draw(self.make_rng("params"), shape, jnp.float32)

  def __call__(
    self, batch, *, train=False, capture=frozenset(), cache_length=0
  ):
    """As of `Encoder`; in training `updates` holds the new notes.

    Args:
      batch: also `note_ids` [batch, length] int32, the note of each token's
        word, 0 for none, and `note_spans` [batch, s, 3] int32, of each
        occurrence to learn from its note, start and end (exclusive).
      train: dropout on, and notes are taken.
      capture: names kept in 'intermediates'.
      cache_length: keys and values kept for decoding, 0 for none.

    Raises:
      UserError: states are not as wide as the notes.
    """
    outputs = super().__call__(
      batch, train=train, capture=capture, cache_length=cache_length
    )
    if train and "note_spans" in batch:
      outputs["updates"] = {COLLECTION: self._taken(outputs["hidden"], batch)}
    return outputs

  def rows(self, batch, ctx):
    """The encoder's rows, [batch, length, features], mixed with notes."""
    x = super().rows(batch, ctx)
    if "note_ids" not in batch:
      return x
    ids = batch["note_ids"]
    read = jax.lax.stop_gradient(self.table.value)[jnp.maximum(ids - 1, 0)]
    mixed = (1.0 - self.share) * x + self.share * read.astype(x.dtype)
    return jnp.where(ids[..., None] > 0, mixed, x)

  def _taken(self, hidden, batch):
    """The collection after a batch."""
    width = self.table.value.shape[-1]
    if hidden.shape[-1] != width:
      raise errors.UserError(
        f"config.model.notes are as wide as rows of the input, {width}, but "
        f"the states that they are taken from are {hidden.shape[-1]} wide: "
        "take embeddings of kind='token', or their table_width=width."
      )
    segments = batch.get("segments", jnp.ones(hidden.shape[:2], jnp.int32))
    found = means(hidden, batch["note_spans"], segments, self.reach)
    table, uses = noted(
      self.table.value, batch["note_spans"][..., 0], found, self.rate
    )
    return {"table": table, "uses": self.uses.value + uses}


def means(hidden, spans, segments, reach: int):
  """Means of states around spans, inside their documents.

  Args:
    hidden: [batch, length, width]; no gradient passes.
    spans: [batch, s, 3] int32, (note, start, end exclusive).
    segments: [batch, length] int32.
    reach: tokens to each side.

  Returns:
    float32 [batch, s, width].
  """
  start, stop = spans[..., 1, None], spans[..., 2, None]
  here = jnp.arange(hidden.shape[1])[None, None, :]
  own = jnp.take_along_axis(segments, spans[..., 1], axis=1)[..., None]
  inside = (here >= start - reach) & (here < stop + reach)
  inside &= segments[:, None, :] == own
  weights = inside.astype(jnp.float32)
  total = jnp.einsum(
    "bsl,bld->bsd",
    weights,
    jax.lax.stop_gradient(hidden).astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  return total / jnp.maximum(jnp.sum(weights, axis=-1), 1.0)[..., None]


def noted(table, ids, found, rate: float):
  """One step of the running averages.

  Args:
    table: float32 [words, width].
    ids: [batch, s] int32, notes from 1; 0 for none.
    found: float32 [batch, s, width].
    rate: share of the new.

  Returns:
    The new table, and int32 [words], occurrences of each word.
  """
  rows = jnp.where(ids > 0, ids - 1, table.shape[0])  # none: behind the end
  total = jnp.zeros_like(table).at[rows].add(found, mode="drop")
  uses = jnp.zeros(table.shape[:1], jnp.int32).at[rows].add(1, mode="drop")
  count = uses[:, None]
  mean = total / jnp.maximum(count, 1)
  new = (1.0 - rate) * table + rate * mean
  return jnp.where(count > 0, new, table), uses


def _plain(spec):
  kept = {key: value for key, value in spec.items() if key != "notes"}
  return {**kept, "kind": "encoder"}


def _check(notes):
  known = ("words", "share", "rate", "reach")
  for key in notes:
    if key not in known:
      raise errors.unknown("config.model.notes has no key", key, known)
  for key in ("share", "rate"):
    if not 0.0 <= notes.get(key, 0.0) <= 1.0:
      raise errors.UserError(
        f"config.model.notes.{key} is {notes[key]}; it is a share from 0 to 1."
      )
  for key, least in (("words", 1), ("reach", 0)):
    value = notes.get(key, 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
      raise errors.UserError(
        f"config.model.notes.{key} is {value!r}; it is a whole number from "
        f"{least}."
      )
