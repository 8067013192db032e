"""Dense maps, initializers and activations, axis-named and dtype-policied."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import matmul
from pallas_kernels import dropout

# Logical axis names of weights; `jaxlm.sharding` maps them to mesh axes.
AXES = ("embed", "mlp", "heads", "vocab", "length", "layers")


@jax.custom_jvp
def gelu(x):
  """x * Phi(x), exact, computed in float32 or wider.

  Phi as 1 + erf: XLA's erfc, which `jax.nn.gelu` asks for, takes twice as long
  on CPUs. What it would add are digits of results below 1e-7.
  """
  wide = _wide(x)
  return (wide * _normal_cdf(wide)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
  (x,), (dx,) = primals, tangents
  wide = _wide(x)
  cdf = _normal_cdf(wide)
  slope = cdf + wide * jnp.exp(-0.5 * wide * wide) / math.sqrt(2.0 * math.pi)
  return (wide * cdf).astype(x.dtype), dx * slope.astype(x.dtype)


def _normal_cdf(x):
  return 0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def _wide(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


ACTIVATIONS: dict[str, Callable] = {
  "gelu": gelu,
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "tanh": jnp.tanh,
}


def activation(name: str) -> Callable:
  """The activation of a name.

  Raises:
    UserError: no activation of this name.
  """
  if name not in ACTIVATIONS:
    raise errors.unknown("No activation is called", name, ACTIVATIONS)
  return ACTIVATIONS[name]


@dataclasses.dataclass(frozen=True)
class Initializer:
  """How weights start.

  Attributes:
    std: standard deviation of kernels and tables.
    truncated: draw within two of these standard deviations (BERT, without
      rescaling, so what comes out is narrower: 0.88 std).
    scaled_output: divide the std of kernels that write to the residual stream
      by sqrt(2 * depth) (GPT-2).
    depth: number of layers.
    fan_in: divide the std of kernels by the root of their inputs (T5).
    table_std: standard deviation of token tables; `std` where 0.
  """

  std: float = 0.02
  truncated: bool = False
  scaled_output: bool = False
  depth: int = 1
  fan_in: bool = False
  table_std: float = 0.0

  def kernel(self, gain: float = 1.0) -> Callable:
    """Initializer of kernels and small tables; `gain` multiplies the std."""
    return self._draw(gain * self.std, self.fan_in)

  def table(self) -> Callable:
    """Initializer of token tables [vocab, features]."""
    return self._draw(self.table_std or self.std)

  def rows(self) -> Callable:
    """Initializer of output tables [vocab, inputs]."""
    return self._draw(self.std, self.fan_in, inputs=-1)

  def output(self) -> Callable:
    """Initializer of kernels that write to the residual stream."""
    scale = math.sqrt(2 * self.depth) if self.scaled_output else 1.0
    return self._draw(self.std / scale, self.fan_in)

  def _draw(self, std, fan_in=False, inputs=0):
    def draw(key, shape, dtype=jnp.float32):
      wide = std / math.sqrt(shape[inputs]) if fan_in else std
      if self.truncated:
        return wide * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)
      return wide * jax.random.normal(key, shape, dtype)

    return draw


def query_gain(scale: float, head_dim: int) -> float:
  """How much narrower a query's kernel starts where scores are larger.

  With scores multiplied by `scale` in place of 1 / sqrt(head_dim), attention
  starts as sharp as usual (T5, whose scale is 1); never wider.
  """
  return min(1.0, 1.0 / (scale * math.sqrt(head_dim)))


def partitioned(init: Callable, axes: tuple[str | None, ...]) -> Callable:
  """An initializer whose parameter carries its logical axis names."""
  return nn.with_logical_partitioning(init, axes)


def dense(
  features: int,
  axes: tuple[str | None, str | None],
  *,
  init: Callable,
  use_bias: bool = True,
  dtype=jnp.float32,
  param_dtype=jnp.float32,
  name: str | None = None,
) -> nn.Dense:
  """x [..., in] -> [..., features], its kernel named on both axes."""
  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    param_dtype=param_dtype,
    kernel_init=partitioned(init, axes),
    bias_init=partitioned(nn.initializers.zeros, axes[1:]),
    dot_general=matmul.dot_general,
    name=name,
  )


def dense_of(part, features: int, axes, init: Callable, name=None, **options):
  """`dense` in the dtypes of a part, called inside the part."""
  types = dict(dtype=part.dtype, param_dtype=part.param_dtype)
  return dense(features, axes, init=init, name=name, **types, **options)


class Dropout(nn.Module):
  """x / (1 - rate) where `pallas_kernels.dropout` keeps it, else 0.

  Draws from the stream 'dropout'.

  Attributes:
    rate: in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, x, *, deterministic: bool):
    """x of any shape; itself where deterministic."""
    if deterministic or not self.rate:
      return x
    kept = dropout.keep(self.make_rng("dropout"), self.rate, x.shape)
    return jnp.where(kept, x * (1.0 / (1.0 - self.rate)), 0.0).astype(x.dtype)
