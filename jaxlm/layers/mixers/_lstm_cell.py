"""One step of a long short-term memory with a projected state."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.norms import norms
from jaxlm.layers.primitives import Initializer


class LSTMCell(nn.Module):
  """(state, memory), inputs -> the same one token later.

    i, f, g, o = inputs + W_h state
    memory = clip(sigmoid(f) * memory + sigmoid(i) * tanh(g))
    state = norm(clip(W_p (sigmoid(o) * tanh(memory)))) * kept

  Sak et al., arXiv:1402.1128, with the clips and the norm of ELMo-C (Li et
  al., TACL 2019). The memory is kept in float32 or wider.

  Attributes:
    width: of the state.
    cells: of the memory.
    clip: largest memory and projection; 0 for no limit.
    norm: spec of the norm, or None.
  """

  width: int
  cells: int
  clip: float = 0.0
  norm: Mapping[str, Any] | None = None
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, carry, step, kept):
    """One token.

    Args:
      carry: state [batch, width], memory [batch, cells].
      step: inputs [batch, 4 * cells], a cell's gates adjacent, and whether a
        document begins here [batch, 1] bool.
      kept: [batch, width], dropout of the state, the same at every token.

    Returns:
      carry, state.
    """
    inputs, begins = step
    state, memory = (jnp.where(begins, 0, array) for array in carry)
    gates = inputs + self._dense(4 * self.cells, ("embed", "mlp"), "state")(
      state
    )
    gates = gates.astype(memory.dtype).reshape(-1, self.cells, 4)
    i, f, g, o = (gates[..., k] for k in range(4))
    memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    memory = self._clipped(memory)
    out = jax.nn.sigmoid(o) * jnp.tanh(memory)
    state = self._dense(self.width, ("mlp", "embed"), "projection")(
      out.astype(self.dtype)
    )
    state = self._clipped(state)
    if self.norm:
      types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
      state = norms.build(self.norm, name="norm", **types)(state)
    state = state * kept
    return (state, memory), state

  def _clipped(self, x):
    return jnp.clip(x, -self.clip, self.clip) if self.clip else x

  def _dense(self, features, axes, name):
    init = self.initializer.kernel()
    return primitives.dense_of(self, features, axes, init, name, use_bias=False)
