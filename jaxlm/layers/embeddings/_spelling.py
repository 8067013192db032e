"""Hashes of the n-grams of tokens' spellings, in exact 32-bit arithmetic.

The hash of EELBERT (arXiv:2310.20144, section 3) as jaxlm fixes it: the paper
leaves its constants open. Products would need 62 bits; factors are reduced
modulo BUCKETS first, which changes nothing, and multiplied in two halves.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

BASE, MODULUS = 257, 2**31 - 1
BUCKETS = 1_000_003  # the values that a hash may take
_HALF = 10  # bits of the lower half of a factor below BUCKETS < 2^20


@functools.lru_cache(maxsize=4)
def spellings(
  vocabulary: Sequence[str], size: int
) -> tuple[np.ndarray, np.ndarray]:
  """UTF-8 bytes [size, longest] uint8 and their numbers [size] int32.

  Args:
    vocabulary: the text of every token; one beyond it is spelled as its id.
    size: tokens to spell.
  """
  beyond = map(str, range(len(vocabulary), size))
  texts = [text.encode() for text in (*vocabulary, *beyond)][:size]
  lengths = np.array([len(text) for text in texts], np.int32)
  table = np.zeros((size, max(1, lengths.max())), np.uint8)
  for row, text in zip(table, texts, strict=True):
    row[: len(text)] = np.frombuffer(text, np.uint8)
  return table, lengths


def multipliers(seed: int, count: int) -> list[int]:
  """`count` numbers from 1 to MODULUS - 1: SplitMix64 (Steele et al. 2014)."""
  word = (1 << 64) - 1
  made = []
  for index in range(1, count + 1):
    z = (seed + index * 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    made.append(1 + (z ^ (z >> 31)) % (MODULUS - 1))
  return made


def signatures(text, order: int):
  """Rolling hashes of the n-grams of one order.

  Args:
    text: [..., longest] integers below 256.
    order: n, at most `longest`.

  Returns:
    [..., longest - n + 1] uint32 below MODULUS.
  """
  text = text.astype(jnp.uint32)
  count = text.shape[-1] - order + 1
  value = jnp.zeros((*text.shape[:-1], count), jnp.uint32)
  for i in range(order):
    # value * 256 modulo 2^31 - 1 turns its 31 bits by 8.
    turned = ((value << 8) & jnp.uint32(MODULUS)) | (value >> 23)
    value = (turned + value) % jnp.uint32(MODULUS)
    value = (value + text[..., i : i + count]) % jnp.uint32(MODULUS)
  return value


def centered(values, factors: Sequence[int]):
  """values * factors modulo BUCKETS, moved to be around 0.

  Args:
    values: [..., n] uint32.
    factors: m integers.

  Returns:
    [..., n, m] int32 between -BUCKETS / 2 and BUCKETS / 2.
  """
  factors = np.array([f % BUCKETS for f in factors], np.int64)
  low = factors.astype(np.uint32)
  high = ((factors << _HALF) % BUCKETS).astype(np.uint32)
  align = (1,) * values.ndim + (-1,)
  values = (values % jnp.uint32(BUCKETS))[..., None]
  product = (
    (values >> _HALF) * high.reshape(align)
    + (values & jnp.uint32((1 << _HALF) - 1)) * low.reshape(align)
  ) % jnp.uint32(BUCKETS)
  product = product.astype(jnp.int32)
  return jnp.where(product > BUCKETS // 2, product - BUCKETS, product)
