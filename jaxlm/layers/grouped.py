"""Grouped dense maps: blocks of features that do not see each other."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives


class GroupedDense(nn.Module):
  """x [..., in] -> [..., features], a dense map with a block-diagonal kernel.

  Block i of the inputs makes block i of the outputs, so that there are
  1 / groups as many weights. The same as a convolution of one tap in groups
  (SqueezeBERT, Iandola et al., arXiv:2006.11316, section 4.2) and as the
  grouped linear operator of ConvBERT (Jiang et al., arXiv:2008.02496, section
  4.4).

  Attributes:
    features: outputs.
    groups: blocks; they divide inputs and outputs.
    axes: logical names of the inputs and outputs. Blocks are split over
      devices as whichever of the two is not 'embed'.
    kernel_init: of the kernel [groups, in / groups, features / groups].
    use_bias: add a bias [features].
  """

  features: int
  groups: int
  axes: tuple[str, str]
  kernel_init: Callable
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    inputs = x.shape[-1]
    self._check(inputs)
    split = next((axis for axis in self.axes if axis != "embed"), "embed")
    kernel = self.param(
      "kernel",
      primitives.partitioned(self.kernel_init, (split, *self.axes)),
      (self.groups, inputs // self.groups, self.features // self.groups),
      self.param_dtype,
    ).astype(self.dtype)
    blocks = x.reshape(*x.shape[:-1], self.groups, -1).astype(self.dtype)
    y = jnp.einsum("...gi,gio->...go", blocks, kernel)
    y = y.reshape(*x.shape[:-1], self.features)
    if not self.use_bias:
      return y
    bias = self.param(
      "bias",
      primitives.partitioned(nn.initializers.zeros, self.axes[1:]),
      (self.features,),
      self.param_dtype,
    ).astype(self.dtype)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))

  def _check(self, inputs):
    for size in (inputs, self.features):
      if self.groups < 1 or size % self.groups:
        raise errors.UserError(
          f"groups={self.groups} do not divide {size} features into equal "
          "blocks; change one of them."
        )
