"""Filling masks: what a masked language model expects at [MASK]."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxlm import errors
from jaxlm.evaluation import _model


class Candidate(NamedTuple):
  """A token for one mask.

  Attributes:
    token: as it reads.
    piece: as the vocabulary spells it.
    id: its id.
    probability: under the model, other masks unfilled.
  """

  token: str
  piece: str
  id: int
  probability: float


def fill(
  loaded, texts: Sequence[str], top: int = 5, *, rows: int = 64
) -> list[list[list[Candidate]]]:
  """The likeliest tokens at every mask of every text.

  Args:
    loaded: a `jaxlm.loading.Loaded` with the head `masked_lm`, or alike.
    texts: each holds the tokenizer's mask token, once or more.
    top: candidates a mask, the likeliest first.
    rows: rows of a forward.

  Returns:
    For each text, for each of its masks from the left, `top` candidates.

  Raises:
    UserError: no masked-LM head, a text without a mask or longer than the
      model's positions, or a `top` that is not positive.
  """
  _model.require_head(loaded.model, "masked_lm", "Filling masks")
  tokenizer = _model.require_tokenizer(loaded)
  if top < 1:
    raise errors.UserError(f"top is {top}; expected at least 1.")
  longest = loaded.model.positions.longest()
  ids = [
    _ids(tokenizer, text, raw, longest)
    for text, raw in zip(texts, tokenizer.encode_batch(texts, specials=True))
  ]
  places = [
    [i for i, token in enumerate(row) if token == tokenizer.mask_id]
    for row in ids
  ]
  static = _model.Static(loaded.model)
  variables = _model.on_device(loaded.variables)
  found: list[list[list[Candidate]]] = [[] for _ in ids]
  top = min(top, tokenizer.vocab_size)
  for length, owners in _model.buckets([len(r) for r in ids], longest).items():
    count = min(rows, _model.bucket(len(owners)))
    for some in _model.chunks(owners, count):
      batch = _batch(ids, places, some, count, length, tokenizer.pad_id)
      best = jax.device_get(_best(static, top, variables, batch))
      for row, owner in enumerate(some):
        found[owner] = [
          _candidates(tokenizer, tokens, shares)
          for tokens, shares, _ in zip(
            best[1][row], best[0][row], places[owner]
          )
        ]
  return found


def filled(loaded, text: str, candidates: Sequence[Sequence[Candidate]]) -> str:
  """The text with the first candidate of each mask in its place."""
  tokenizer = _model.require_tokenizer(loaded)
  choices = iter([row[0].id for row in candidates])
  ids = tokenizer.encode_batch([text], specials=True)[0]
  return tokenizer.decode(
    [next(choices) if i == tokenizer.mask_id else i for i in ids]
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _best(static, top, variables, batch):
  """Probabilities and ids [rows, masks, top]."""
  logits = static.model.apply(variables, batch, train=False)["masked_lm"]
  return jax.lax.top_k(jax.nn.softmax(logits, axis=-1), top)


def _ids(tokenizer, text, raw, longest) -> list[int]:
  what = f"The text {_model.shorten(text)}"
  if tokenizer.mask_id not in raw:
    raise errors.UserError(
      f"{what} has no mask: write {tokenizer.specials['mask']} where a word is "
      "to be filled in."
    )
  ids, _ = _model.framed(tokenizer, raw)
  _model.check_length(len(ids), longest, what)
  return ids


def _batch(ids, places, owners, count, length, pad_id):
  batch = _model.padded([ids[o] for o in owners], count, length, pad_id)
  masks = max(len(places[o]) for o in owners)
  predict = np.zeros((count, 1 << (masks - 1).bit_length()), np.int32)
  for row, owner in enumerate(owners):
    predict[row, : len(places[owner])] = places[owner]
  return batch | {"predict_positions": predict}


def _candidates(tokenizer, tokens, shares) -> list[Candidate]:
  return [
    Candidate(
      token=tokenizer.decode([index], specials=True).strip(),
      piece=tokenizer.id_to_token(index) or "",
      id=int(index),
      probability=float(share),
    )
    for index, share in zip(tokens, shares)
  ]
