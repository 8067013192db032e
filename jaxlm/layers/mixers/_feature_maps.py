"""What linear attention makes of queries and keys (Hedgehog).

Zhang et al., arXiv:2402.04347, sec. 4.2: a learned map of each head and an
exponential. `softmax` and `joint` are the bounded forms of its successors,
`elu` (Katharopoulos et al., arXiv:2006.16236) and `relu` (Kasai et al.,
arXiv:2103.13076) what it is compared with. They are different attentions.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives

# e^60 still leaves room for sums over 10^6 keys in float32 and bfloat16.
_LARGEST = 30.0


def _exp(z, dtype):
  """[..., d] -> [..., 2 d]; beyond +-30 (float16: +-10) z is cut."""
  largest = min(_LARGEST, math.log(float(jnp.finfo(dtype).max)) - 1.0)
  z = jnp.clip(z, -largest, largest)
  return jnp.concatenate([jnp.exp(z), jnp.exp(-z)], axis=-1)


def _softmax(z, dtype):
  """[..., d] -> [..., 2 d], each half of sum 1."""
  del dtype
  return jnp.concatenate([jax.nn.softmax(z), jax.nn.softmax(-z)], axis=-1)


def _joint(z, dtype):
  """[..., d] -> [..., 2 d] of sum 1: softmax over 2 z and -2 z at once."""
  del dtype
  return jax.nn.softmax(2.0 * jnp.concatenate([z, -z], axis=-1))


# z and the dtype that features are kept in -> features.
MAPS: dict[str, Callable] = {
  "exp": _exp,
  "softmax": _softmax,
  "joint": _joint,
  "elu": lambda z, dtype: 1.0 + jax.nn.elu(z),
  "relu": lambda z, dtype: jax.nn.relu(z),
}


def check(name: str) -> None:
  """Raises UserError if no feature map is of this name."""
  if name not in MAPS:
    raise errors.unknown("No feature map is called", name, MAPS)


def _identities(key, shape, dtype=jnp.float32):
  del key
  return jnp.broadcast_to(jnp.eye(shape[-1], dtype=dtype), shape)


class FeatureMap(nn.Module):
  """x [batch, length, heads, d] -> features(W x + b), one W for each head.

  W starts as the identity. Computed in float32 or wider.

  Attributes:
    features: a name of `MAPS`.
    dtype: of the result.
  """

  features: str = "exp"
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    heads, width = x.shape[-2:]
    kernel = self.param(
      "kernel",
      primitives.partitioned(_identities, ("heads", "embed", None)),
      (heads, width, width),
      self.param_dtype,
    )
    bias = self.param(
      "bias",
      primitives.partitioned(nn.initializers.zeros, ("heads", None)),
      (heads, width),
      self.param_dtype,
    )
    wide = jnp.promote_types(self.dtype, jnp.float32)
    z = jnp.einsum("blhi,hio->blho", x.astype(wide), kernel.astype(wide))
    z = z + bias.astype(wide)[None, None]
    return MAPS[self.features](z, self.dtype).astype(self.dtype)
