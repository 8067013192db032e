"""What all uses of a trained model share: its heads, limits and batches."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import errors

_LOGITS = 1 << 26  # float32 logits that one forward may hold: 256 MiB


class Static:
  """A module as a static argument of `jax.jit`: equal to itself alone.

  Linen modules that hold dicts cannot be hashed. As the compiled function is
  a global one, calling it again compiles nothing.
  """

  def __init__(self, model):
    self.model = model

  def __hash__(self):
    return id(self.model)

  def __eq__(self, other):
    return isinstance(other, Static) and self.model is other.model


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply_head(static: Static, head: str, variables, batch):
  """The output of one head, without dropout; other heads cost nothing."""
  return static.model.apply(variables, batch, train=False)[head]


def require_head(model, head: str, purpose: str) -> None:
  """Raises UserError if the model lacks the head that `purpose` needs."""
  if head not in model.heads:
    known = ", ".join(sorted(model.heads)) or "none"
    raise errors.UserError(
      f"{purpose} needs a model with the head '{head}'; this one has: {known}."
    )


def require_tokenizer(loaded):
  """The tokenizer of a loaded model.

  Raises:
    UserError: it came without one.
  """
  if loaded.tokenizer is None:
    raise errors.UserError(
      f"{loaded.source} holds a model without a tokenizer, so it cannot read "
      "text: put the tokenizer.json that it was trained with beside it."
    )
  return loaded.tokenizer


def on_device(variables):
  """Numpy arrays moved once, not at every call; jax arrays stay put."""
  return jax.tree.map(jnp.asarray, variables)


def bucket(length: int, longest: int | None = None) -> int:
  """`length` rounded up to one of at most four static lengths a doubling.

  Few lengths mean few compilations; rounding wastes at most a fifth from 64
  tokens on, and never passes `longest`.
  """
  step = max(8, (1 << (max(length - 1, 1)).bit_length()) // 8)
  rounded = -(-length // step) * step
  return rounded if longest is None else max(min(rounded, longest), length)


def buckets(
  lengths: Sequence[int], longest: int | None
) -> dict[int, list[int]]:
  """Static length -> indices of what fits in it, shortest first."""
  found: dict[int, list[int]] = {}
  for index, length in enumerate(lengths):
    found.setdefault(bucket(length, longest), []).append(index)
  return dict(sorted(found.items()))


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
  """Consecutive pieces of at most `size` items."""
  for start in range(0, len(items), size):
    yield items[start : start + size]


def rows_within(length: int, vocab: int, most: int = 64) -> int:
  """Rows of a forward whose logits at every token stay within memory."""
  return max(1, min(most, _LOGITS // (length * vocab)))


def check_length(tokens: int, longest: int | None, what: str) -> None:
  """Raises UserError if a text has more tokens than the model positions."""
  if longest is not None and tokens > longest:
    raise errors.UserError(
      f"{what} has {tokens} tokens, special ones counted, more than the "
      f"model's {longest} positions: shorten it."
    )


def shorten(text: str, most: int = 60) -> str:
  """The beginning of a text, quoted, for messages."""
  return repr(text if len(text) <= most else f"{text[:most]}...")


def padded(
  rows: Sequence[Sequence[int]], count: int, length: int, pad_id: int
) -> dict[str, np.ndarray]:
  """`inputs`, `segments`, `positions`, int32 [count, length].

  Rows that only fill up the batch hold one padding token that counts as
  real: attention over nothing has no meaning.
  """
  inputs = np.full((count, length), pad_id, np.int32)
  segments = np.zeros((count, length), np.int32)
  for index, row in enumerate(rows):
    inputs[index, : len(row)] = row
    segments[index, : len(row)] = 1
  segments[len(rows) :, 0] = 1
  positions = np.arange(length, dtype=np.int32)[None] * segments
  return {"inputs": inputs, "segments": segments, "positions": positions}


def framed(tokenizer, ids: Sequence[int]) -> tuple[list[int], int]:
  """The ids between special tokens, and the place of the first of them."""
  return list(tokenizer.bracket(ids)[0]), tokenizer.front
