"""Dense maps, initializers and activations, axis-named and dtype-policied."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors

# Logical axis names of weights; `jaxlm.sharding` maps them to mesh axes.
AXES = ("embed", "mlp", "heads", "vocab", "length", "layers")

ACTIVATIONS: dict[str, Callable] = {
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
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
  """

  std: float = 0.02
  truncated: bool = False
  scaled_output: bool = False
  depth: int = 1

  def kernel(self) -> Callable:
    """Initializer of kernels and tables."""
    return self._draw(self.std)

  def output(self) -> Callable:
    """Initializer of kernels that write to the residual stream."""
    scale = math.sqrt(2 * self.depth) if self.scaled_output else 1.0
    return self._draw(self.std / scale)

  def _draw(self, std):
    if self.truncated:
      return lambda key, shape, dtype=jnp.float32: std * (
        jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)
      )
    return nn.initializers.normal(std)


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
    name=name,
  )
