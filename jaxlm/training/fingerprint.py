"""Checksums of arrays, the same on any mesh: what was saved came back."""

import jax
import jax.numpy as jnp

from jaxlm import paths


def fingerprint(tree) -> dict[str, int]:
  """{path: sum of the leaf's bits as uint32 words, modulo 2**32}.

  The sum wraps and does not depend on the order of its terms, so it is the
  same however the leaf is sharded, and it is computed where the leaf lives.
  Any change of a single value changes it.
  """
  sums = jax.device_get(_sums(paths.flatten(tree)))
  return {path: int(value) for path, value in sums.items()}


@jax.jit
def _sums(leaves):
  return {path: _sum(leaf) for path, leaf in leaves.items()}


def _sum(leaf):
  if leaf.dtype == jnp.bool_:
    words = leaf.astype(jnp.uint32)
  else:
    size = leaf.dtype.itemsize
    word = {1: jnp.uint8, 2: jnp.uint16}.get(size, jnp.uint32)
    # 64-bit values become two words on a new last axis.
    words = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
  return jnp.sum(words, dtype=jnp.uint32)


def differences(saved: dict[str, int], found: dict[str, int]) -> list[str]:
  """Paths whose sums are not the same, sorted."""
  every = sorted({*saved, *found})
  return [path for path in every if saved.get(path) != found.get(path)]
