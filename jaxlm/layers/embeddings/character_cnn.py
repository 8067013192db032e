"""Rows from convolutions over a token's characters (ELMo)."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.embeddings import _spelling, embeddings
from jaxlm.layers.embeddings._spelled import Spelled
from jaxlm.layers.primitives import Initializer

_BEGIN, _END, _PAD = 256, 257, 258  # beside the 256 bytes
_CHARACTERS = 259


@embeddings.register(
  "character_cnn",
  paper="arXiv:1802.05365",
  example={
    "vocab_size": 64,
    "width": 32,
    "vocabulary": ("[PAD]", "run"),
    "characters": 8,
    "character_width": 8,
    "filters": ((1, 8), (3, 16)),
  },
)
class CharacterCNN(Spelled):
  """W highway(max over places of act(filters over characters)) + b.

  As ELMo reads words (after Kim et al., arXiv:1508.06615): the UTF-8 bytes of
  a token between two marks, filled up or cut to `characters`; filters of
  several widths, of each the maximum over all places; `highways` layers g * x
  + (1 - g) * relu(W x + b), g = sigmoid(W' x + b'), which begin by carrying.

  Attributes:
    characters: bytes and marks of a token; longer ones are cut.
    character_width: of the table of bytes.
    filters: (places, filters) of each width.
    highways: layers behind the filters.
    activation: a name of `primitives.ACTIVATIONS`.
  """

  characters: int = 50
  character_width: int = 16
  filters: tuple[tuple[int, int], ...] = (
    (1, 32),
    (2, 32),
    (3, 64),
    (4, 128),
    (5, 256),
    (6, 512),
    (7, 1024),
  )
  highways: int = 2
  activation: str = "relu"
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self):
    self._check()
    draw, types = self.initializer.kernel(), self._types()
    self.table = self.param(
      "table",
      primitives.partitioned(draw, (None, None)),
      (_CHARACTERS, self.character_width),
      self.param_dtype,
    )
    self.convolutions = [
      primitives.dense(count, (None, "embed"), init=draw, **types)
      for _, count in self.filters
    ]
    total = sum(count for _, count in self.filters)
    # Split by outputs alone: XLA's partitioner gives wrong gradients to what
    # was concatenated if its inputs are split too (jax 0.10, CPU).
    self.carries = [
      nn.Dense(
        total,
        kernel_init=primitives.partitioned(draw, (None, "mlp")),
        bias_init=primitives.partitioned(nn.initializers.ones, ("mlp",)),
        **types,
      )
      for _ in range(self.highways)
    ]
    self.changes = [
      primitives.dense(total, (None, "mlp"), init=draw, **types)
      for _ in range(self.highways)
    ]
    self.projection = primitives.dense(
      self.width, ("mlp", "embed"), init=draw, **types
    )

  def rows(self, tokens):
    """tokens [n] -> [n, width]."""
    spelled = spelled_bytes(self.texts(), self.vocab_size, self.characters)
    x = self.table[jnp.asarray(spelled)[tokens]].astype(self.dtype)
    act = primitives.activation(self.activation)
    found = [
      act(jnp.max(convolution(_windows(x, places)), axis=1))
      for (places, _), convolution in zip(self.filters, self.convolutions)
    ]
    x = jnp.concatenate(found, axis=-1)
    for carry, change in zip(self.carries, self.changes):
      gate = jax.nn.sigmoid(carry(x))
      x = gate * x + (1 - gate) * jax.nn.relu(change(x))
    return self.projection(x)

  def _types(self):
    return dict(dtype=self.dtype, param_dtype=self.param_dtype)

  def _check(self):
    widest = max((places for places, _ in self.filters), default=0)
    if not 0 < widest <= self.characters:
      raise errors.UserError(
        f"embedding 'character_cnn': filters are {widest} characters wide, and "
        f"tokens have characters={self.characters}; give filters as (places, "
        "count), no wider than that."
      )


@functools.lru_cache(maxsize=4)
def spelled_bytes(
  vocabulary: Sequence[str], size: int, characters: int
) -> np.ndarray:
  """[size, characters] int32: bytes of every token between marks, filled up.

  Args:
    vocabulary: the text of every token; one beyond it is spelled as its id.
    size: tokens to spell.
    characters: of a token, two marks included.
  """
  text, lengths = _spelling.spellings(vocabulary, size)
  table = np.full((size, characters), _PAD, np.int32)
  table[:, 0] = _BEGIN
  for row, letters, length in zip(table, text, lengths):
    kept = letters[: min(length, characters - 2)]
    row[1 : 1 + len(kept)] = kept
    row[1 + len(kept)] = _END
  return table


def _windows(x, places):
  """x [n, characters, width] -> [n, windows, places * width]."""
  count = x.shape[1] - places + 1
  return jnp.concatenate([x[:, k : k + count] for k in range(places)], axis=-1)
