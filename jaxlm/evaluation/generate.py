"""Text that continues prompts, from a causal language model."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxlm import errors
from jaxlm.evaluation import _model
from jaxlm.models import generation

GREEDY = generation.Sampling()


class Generated(NamedTuple):
  """A continued prompt.

  Attributes:
    text: the continuation alone, as it follows the prompt.
    tokens: the new tokens, without the end of text.
    ended: whether the model drew the end of text.
  """

  text: str
  tokens: list[int]
  ended: bool


def generate_text(
  loaded,
  prompts: Sequence[str],
  max_new_tokens: int = 50,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
  seed: int = 0,
) -> list[str]:
  """The continuation of each prompt, without the prompt; see `generate`."""
  sampling = generation.Sampling(temperature, top_k, top_p)
  found = generate(loaded, prompts, max_new_tokens, sampling, seed=seed)
  return [item.text for item in found]


def generate(
  loaded,
  prompts: Sequence[str],
  max_new_tokens: int,
  sampling: generation.Sampling = GREEDY,
  *,
  seed: int = 0,
  rows: int = 64,
) -> list[Generated]:
  """Continues each prompt until the end of text or `max_new_tokens`.

  Args:
    loaded: a `jaxlm.loading.Loaded` with the head `causal_lm`, or alike.
    prompts: texts; an empty one starts from the beginning-of-text token.
    max_new_tokens: most tokens to add.
    sampling: how tokens are chosen; greedy by default.
    seed: of the draws; what a prompt gets also depends on its place among
      the prompts.
    rows: prompts of a forward.

  Raises:
    UserError: no causal-LM head, more tokens than the model has positions, or
      a setting out of its range.
  """
  _model.require_head(loaded.model, "causal_lm", "Generating text")
  tokenizer = _model.require_tokenizer(loaded)
  _check(max_new_tokens, sampling)
  ids = [_start(tokenizer, raw) for raw in tokenizer.encode_batch(prompts)]
  longest = loaded.model.positions.longest()
  for prompt, row in zip(prompts, ids):
    if longest is not None and len(row) + max_new_tokens > longest:
      raise errors.UserError(
        f"The prompt {_model.shorten(prompt)} has {len(row)} tokens and "
        f"max_new_tokens is {max_new_tokens}, together more than the model's "
        f"{longest} positions."
      )
  static = _model.Static(loaded.model)
  variables = _model.on_device(loaded.variables)
  eos = tokenizer.special_ids.get("eos")
  room = None if longest is None else longest - max_new_tokens
  found = []
  for part, some in enumerate(_model.chunks(ids, rows)):
    length = _model.bucket(max(map(len, some)), room)
    inputs, segments = _left_padded(some, length, tokenizer.pad_id)
    key = jax.random.fold_in(jax.random.key(seed), part)
    tokens = _continue(
      static,
      max_new_tokens,
      sampling,
      eos,
      tokenizer.pad_id,
      variables,
      inputs,
      segments,
      key,
    )
    found += [
      _told(tokenizer, row, new, eos)
      for row, new in zip(some, np.asarray(tokens).tolist())
    ]
  return found


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _continue(
  static, new, sampling, eos, pad_id, variables, inputs, segments, key
):
  return generation.generate(
    static.model,
    variables,
    inputs,
    max_new_tokens=new,
    key=key,
    sampling=sampling,
    segments=segments,
    eos_id=eos,
    pad_id=pad_id,
  )


def _start(tokenizer, raw: list[int]) -> list[int]:
  """The prompt as training rows begin: special tokens in front, none behind."""
  whole, first = _model.framed(tokenizer, raw)
  return whole[: first + len(raw)] or [tokenizer.bos_id]


def _left_padded(rows, length, pad_id):
  inputs = np.full((len(rows), length), pad_id, np.int32)
  segments = np.zeros((len(rows), length), np.int32)
  for index, row in enumerate(rows):
    inputs[index, length - len(row) :] = row
    segments[index, length - len(row) :] = 1
  return inputs, segments


def _told(tokenizer, prompt, new, eos) -> Generated:
  ended = eos is not None and eos in new
  tokens = new[: new.index(eos)] if ended else new
  # Decoded with the prompt: white space depends on what stands before.
  before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *tokens])
  text = (
    whole.removeprefix(before)
    if whole.startswith(before)
    else tokenizer.decode(tokens)
  )
  return Generated(text, tokens, ended)


def _check(new: int, sampling: generation.Sampling) -> None:
  temperature, top_k, top_p = sampling
  for name, value, fits, wanted in (
    ("max_new_tokens", new, new >= 1, "at least 1"),
    ("temperature", temperature, temperature >= 0, "0 or more"),
    ("top_k", top_k, top_k >= 0, "0 or more"),
    ("top_p", top_p, 0 < top_p <= 1, "more than 0 and at most 1"),
  ):
    if not fits:
      raise errors.UserError(f"{name} is {value}; expected {wanted}.")
