"""What heads share: reading hidden states at given places, and pooling."""

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
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
  table = own_rows(head, "table", vocab_size, states.shape[-1])
  return scores(head, states, table)


def own_rows(head, name: str, rows: int, width: int):
  """A table [rows, width] of the head's own, called inside the head."""
  return head.param(
    name,
    primitives.partitioned(head.initializer.rows(), ("vocab", "embed")),
    (rows, width),
    head.param_dtype,
  )


def own_bias(head, name: str, rows: int):
  """A bias [rows] of such a table, or 0 where `output_bias` is off."""
  if not head.output_bias:
    return jnp.zeros((rows,), jnp.float32)
  return _bias(head, name, rows)


def with_bias(head, logits):
  """logits [..., rows] and a bias of the head's own, called inside it."""
  return biased(logits, _bias(head, "output_bias", logits.shape[-1]))


def biased(logits, bias):
  """logits [..., rows] and a bias [rows], in the dtype of the former."""
  ahead = (1,) * (logits.ndim - 1)
  return logits + bias.reshape(*ahead, -1).astype(logits.dtype)


def _bias(head, name, rows):
  init = primitives.partitioned(nn.initializers.zeros, ("vocab",))
  return head.param(name, init, (rows,), head.param_dtype)


def scores(head, states, table):
  """states [..., width] T^T, in the head's dtype, to float32 [..., rows]."""
  return jnp.einsum(
    "...d,vd->...v",
    states.astype(head.dtype),
    table.astype(head.dtype),
    preferred_element_type=jnp.promote_types(head.dtype, jnp.float32),
  )


def flat(x):
  """[..., width] -> [n, width]."""
  return x.reshape(-1, x.shape[-1])


def by_direction(hidden, directions: int):
  """hidden [batch, length, features] as states of each direction.

  Args:
    hidden: of any model; of a `bidirectional_lm` model for 2 directions.
    directions: 1, or 2: forward and backward states side by side.

  Returns:
    [batch, length, features], or [batch, length, 2, features / 2].

  Raises:
    UserError: another number of directions.
  """
  if directions not in (1, 2):
    raise errors.UserError(
      f"config.model.heads.NAME.directions is {directions}: it is 1 (the next "
      "token) or 2 (a bidirectional_lm model, both neighbours)."
    )
  if directions == 1:
    return hidden
  return hidden.reshape(*hidden.shape[:-1], 2, -1)


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
