"""Rows that hold some of the tokens of other rows: chosen places, in order.

Places are int32 [batch, k]; one behind the end of the row, `length`, is an
empty slot, which stands as padding in the shorter row.
"""

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.context import Context
from pallas_kernels.flash_attention import bias


def gather(x, places):
  """[batch, length, ...] at places [batch, k] -> [batch, k, ...]; empty: 0."""
  take = lambda row, place: row.at[place].get(mode="fill", fill_value=0)
  return jax.vmap(take)(x, places)


def scatter(values, places, onto):
  """`onto` [batch, length, width] with values [batch, k, width] at places."""
  put = lambda row, place, new: row.at[place].set(new, mode="drop")
  return jax.vmap(put)(onto, places, values.astype(onto.dtype))


def context(ctx: Context, places, keep=None) -> Context:
  """The context of the tokens at `places`.

  Args:
    ctx: of whole rows.
    places: int32 [batch, k].
    keep: bool [batch, k], slots that are filled; all within the row where
      None.
  """
  segments = gather(ctx.segments, places)
  if keep is not None:
    segments = jnp.where(keep, segments, 0)
  length = ctx.segments.shape[1]
  return ctx.replace(
    segments=segments,
    positions=gather(ctx.positions, places),
    bias=None if ctx.bias is None else at_places(ctx.bias, places, length),
  )


def at_places(term, places, length: int) -> bias.Dense:
  """A score bias between the tokens at `places` of rows of `length`.

  Biases count distances by place, which in the shorter row say nothing: all
  scores of the whole rows are made, and those of the places are taken.
  """
  index = jnp.arange(length)
  scores = term.dense(index, index)
  each = None if scores.shape[0] == 1 else 0
  scores = scores[0] if each is None else scores

  def take(scores, place):
    return scores[:, place[:, None], place[None, :]]

  place = jnp.minimum(places, length - 1)
  return bias.Dense(jax.vmap(take, in_axes=(each, 0))(scores, place))


def check(model, where: str) -> None:
  """Raises UserError for layers that cannot run on chosen tokens alone.

  A layer can that knows of order only what `ctx.positions` and `ctx.bias`
  tell; mixers say so by `any_order`.

  Args:
    model: an Encoder that is to run on such rows.
    where: its name in the config.
  """
  refuse = f"{where} runs on chosen tokens of a row, without those between: "
  if model.positions.shares:
    raise errors.UserError(
      f"{refuse}positions that share {model.positions.shares} count places. "
      "Take learned, sinusoidal, rotary, alibi or relative_buckets."
    )
  for layer in model.stack.layers:
    layer = getattr(layer, "block", layer)
    for part in (layer, layer.mixer):
      if reason := _side_by_side(part):
        raise errors.UserError(
          f"{refuse}{type(part).__name__} {reason} Take attention without a "
          "window, in the block 'post_norm' or 'pre_norm'."
        )


def _side_by_side(part) -> str:
  """Why a block or a mixer needs tokens in their places, or ''."""
  if hasattr(part, "mixer"):
    return getattr(part, "neighbours", "")
  if not getattr(part, "any_order", False):
    return "works by places in the row."
  if getattr(part, "window", 0):
    return "has a window, which counts places."
  inside = getattr(part, "positions", None)
  if inside is not None and inside.scores_queries():
    return f"has positions that count places ({type(inside).__name__})."
  return ""
