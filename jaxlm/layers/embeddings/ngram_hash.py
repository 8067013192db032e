"""Rows computed from a token's spelling, in place of a table (EELBERT)."""

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.embeddings import _spelling, embeddings
from jaxlm.layers.embeddings._spelled import Spelled
from jaxlm.layers.primitives import Initializer

SPLITS = ("pyramid", "equal")


@embeddings.register(
  "ngram_hash",
  paper="arXiv:2310.20144",
  example={"vocab_size": 64, "width": 32, "vocabulary": ("[PAD]", "run")},
)
class NgramHash(Spelled):
  """The means of hashes of a token's n-grams, nothing of it learned.

  For n = 1 .. ngrams, columns of their own hold the mean of (s * h mod B) /
  (B / 2), moved into [-1, 1], over the n-grams' signatures s; h is drawn once
  a column. All is integer arithmetic until the mean, so a row is the same in
  every process, on every device.

  Sentence types are learned. There is no table to tie an output to: the
  masked_lm head needs `untied`.

  Attributes:
    ngrams: the longest n-gram, in bytes.
    split: columns of n: 'pyramid' (proportional to n) or 'equal'; the rest
      goes to the longest.
    seed: of the multipliers h.
    types: rows of the sentence table; 0 for none.
  """

  ngrams: int = 3
  split: str = "pyramid"
  seed: int = 42
  types: int = 0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self):
    if self.types:
      self.type_table = self.param(
        "type_table",
        primitives.partitioned(self.initializer.kernel(), (None, "embed")),
        (self.types, self.width),
        self.param_dtype,
      )

  def lookup(self, tokens, types=None, ctx=None):
    """tokens, types [batch, length] -> [batch, length, width].

    Raises:
      UserError: a vocabulary larger than the model's, an unknown `split`, or
        columns that do not suffice for `ngrams`.
    """
    del ctx
    x = self.rows(tokens).astype(self.dtype)
    if not self.types:
      return x
    types = jnp.zeros_like(tokens) if types is None else types
    return x + self.type_table[types].astype(self.dtype)

  def rows(self, tokens):
    """Hashed rows of tokens [...], [..., width] float32 or wider."""
    widths = self._widths()
    table, lengths = _spelling.spellings(self.texts(), self.vocab_size)
    text, length = jnp.asarray(table)[tokens], jnp.asarray(lengths)[tokens]
    factors = _spelling.multipliers(self.seed, self.width)
    parts, start = [], 0
    for order, width in enumerate(widths, 1):
      own = factors[start : start + width]
      parts.append(self._part(text, length, order, own))
      start += width
    return jnp.concatenate(parts, axis=-1)

  def _part(self, text, length, order, factors):
    """Means over the n-grams of one order [..., factors]; 0 without any."""
    wide = jnp.promote_types(self.dtype, jnp.float32)
    longest = text.shape[-1]
    if order > longest:
      return jnp.zeros((*text.shape[:-1], len(factors)), wide)
    count = jnp.maximum(length - order + 1, 0)[..., None]
    index = jnp.arange(longest - order + 1, dtype=jnp.int32)
    real = index.reshape((1,) * length.ndim + (-1,)) < count
    hashes = _spelling.centered(_spelling.signatures(text, order), factors)
    total = jnp.sum(jnp.where(real[..., None], hashes, 0), -2, jnp.int32)
    scale = jnp.maximum(count, 1).astype(wide) * (_spelling.BUCKETS / 2)
    return total.astype(wide) / scale

  def _widths(self) -> list[int]:
    """Columns of each order."""
    shares = {
      "pyramid": range(1, self.ngrams + 1),
      "equal": [1] * self.ngrams,
    }
    if self.split not in shares:
      raise errors.unknown(
        "embedding 'ngram_hash' knows no split", self.split, SPLITS
      )
    share = shares[self.split]
    widths = [self.width * s // sum(share) for s in share]
    if not widths or not widths[0]:
      raise errors.UserError(
        f"embedding 'ngram_hash' splits {self.width} columns into "
        f"ngrams={self.ngrams} parts, of which some have none: take from 1 to "
        "fewer ngrams."
      )
    widths[-1] += self.width - sum(widths)
    return widths
