"""What heads share: reading hidden states at given places, and pooling."""

import jax.numpy as jnp

from jaxlm.layers import primitives
from jaxlm.layers.norms import norms


def gather(hidden, index):
  """hidden [batch, length, width] at index [batch, k] -> [batch, k, width]."""
  return jnp.take_along_axis(hidden, index[..., None], axis=1)


def sentences(hidden, batch):
  """Hidden states that sentence-level heads read, [batch, k, width].

  Those at `cls_positions` [batch, k], or the first of each row.
  """
  if "cls_positions" in batch:
    return gather(hidden, batch["cls_positions"])
  return hidden[:, :1]


def own_logits(head, states, vocab_size: int):
  """states T^T over a table of the head's own, called inside the head.

  Args:
    head: has the fields `initializer`, `dtype` and `param_dtype`.
    states: [..., width].
    vocab_size: rows of the table.

  Returns:
    float32 logits [..., vocab_size].
  """
  table = head.param(
    "table",
    primitives.partitioned(head.initializer.rows(), ("vocab", "embed")),
    (vocab_size, states.shape[-1]),
    head.param_dtype,
  )
  return jnp.einsum(
    "...d,vd->...v",
    states.astype(head.dtype),
    table.astype(head.dtype),
    preferred_element_type=jnp.promote_types(head.dtype, jnp.float32),
  )


def pooled(head, x):
  """A head's pooler, called inside the head: norm(act(W x)), norm optional.

  Args:
    head: has the fields `pooler_activation`, `pooler_bias`, `pooler_norm`,
      `norm` and those of every dense map.
    x: [..., width].

  Returns:
    [..., width].
  """
  types = dict(dtype=head.dtype, param_dtype=head.param_dtype)
  x = primitives.dense(
    x.shape[-1],
    ("embed", None),
    init=head.initializer.kernel(),
    use_bias=head.pooler_bias,
    name="pooler",
    **types,
  )(x)
  x = primitives.activation(head.pooler_activation)(x)
  if not head.pooler_norm:
    return x
  return norms.build(head.norm, name="pooler_norm", **types)(x)
