"""A token's vector as the mean of those of its n-grams (FastText)."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.embeddings import _spelling, embeddings
from jaxlm.layers.embeddings._projected import Projected
from jaxlm.layers.embeddings._spelled import Spelled


@embeddings.register(
  "subword_vectors",
  paper="arXiv:1607.04606",
  example={
    "vocab_size": 64,
    "width": 32,
    "vocabulary": ("[PAD]", "run"),
    "vector_width": 32,
    "buckets": 40,
    "norm": {"kind": "layer_norm"},
  },
)
class SubwordVectors(Projected, Spelled):
  """norm(W v + b), v the mean of a token's own vector and of its n-grams'.

  Bojanowski et al., section 3.2: n-grams of the token between '<' and '>', of
  `shortest` to `longest` bytes, share `buckets` vectors by a hash. ELMo-C (Li
  et al., TACL 2019) reads such vectors of 300 numbers, through W to 512.

  Attributes:
    shortest: bytes of the shortest n-grams.
    longest: bytes of the longest.
    buckets: vectors that n-grams share.
  """

  shortest: int = 3
  longest: int = 6
  buckets: int = 100_000

  def setup(self):
    super().setup()
    if not 0 < self.shortest <= self.longest:
      raise errors.UserError(
        "embedding 'subword_vectors' takes n-grams of shortest="
        f"{self.shortest} to longest={self.longest} bytes; give 3 and 6, for "
        "example."
      )
    self.table = self.param(
      "table",
      primitives.partitioned(self.initializer.table(), ("vocab", "embed")),
      (self.vocab_size + self.buckets, self.vector_width),
      self.param_dtype,
    )

  def rows(self, tokens):
    """tokens [n] -> [n, vector_width]."""
    grams, count = buckets(
      self.texts(),
      self.vocab_size,
      (self.shortest, self.longest),
      self.buckets,
    )
    wide = jnp.promote_types(self.dtype, jnp.float32)
    here, number = jnp.asarray(grams)[tokens], jnp.asarray(count)[tokens]
    found = jnp.where(
      (here >= 0)[..., None], self.table[self.vocab_size + here], 0
    )
    total = self.table[tokens].astype(wide) + jnp.sum(found, 1, wide)
    return (total / (1 + number).astype(wide)[:, None]).astype(self.dtype)


@functools.lru_cache(maxsize=4)
def buckets(
  vocabulary: Sequence[str], size: int, orders: tuple[int, int], count: int
) -> tuple[np.ndarray, np.ndarray]:
  """The buckets of every token's n-grams, and how many it has.

  Args:
    vocabulary: the text of every token; one beyond it is spelled as its id.
    size: tokens to spell.
    orders: bytes of the shortest and of the longest n-grams.
    count: buckets.

  Returns:
    [size, most] int32, -1 where a token has no more, and [size] int32.
  """
  beyond = map(str, range(len(vocabulary), size))
  texts = [f"<{text}>".encode() for text in (*vocabulary, *beyond)][:size]
  found = [
    [
      _signature(text[i : i + n]) % count
      for n in range(orders[0], orders[1] + 1)
      for i in range(len(text) - n + 1)
    ]
    for text in texts
  ]
  most = max(1, max(map(len, found)))
  table = np.full((size, most), -1, np.int32)
  for row, places in zip(table, found):
    row[: len(places)] = places
  return table, np.array([len(places) for places in found], np.int32)


def _signature(gram: bytes) -> int:
  """The rolling hash of `_spelling.signatures`, of one n-gram."""
  value = 0
  for byte in gram:
    value = (value * _spelling.BASE + byte) % _spelling.MODULUS
  return value
