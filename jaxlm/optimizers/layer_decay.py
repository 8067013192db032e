"""Layer-wise decay of the learning rate (ELECTRA, arXiv:2003.10555).

Lower layers hold what pre-training taught and move less. The depth of a
parameter is read from its path: embeddings are below the first layer, heads
above the last one.
"""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from jaxlm import errors, paths
from jaxlm.optimizers import optimizers

_UNROLLED = re.compile(r"(^|/)stack/layers_(\d+)/")
_LOOPED = re.compile(r"(^|/)stack/loop/layers_(\d+)/")
_BELOW = re.compile(r"^(embeddings|positions|input_norm)(/|_|$)")


@optimizers.register(
  "layer_decay",
  paper="arXiv:2003.10555",
  example={"learning_rate": 1e-3, "base": {"kind": "adamw"}},
)
def layer_decay(
  learning_rate,
  base: Mapping,
  factor: float = 0.8,
  top_power: int = 2,
) -> optax.GradientTransformationExtraArgs:
  """`base` with updates times factor**(distance from the heads).

  The top layer's rate is factor**top_power; each layer below takes one more
  factor, the embeddings are one below the first layer.

  Args:
    learning_rate: a schedule or a number, of the heads.
    base: spec of an optimizer, without its learning rate.
    factor: in (0, 1]; ELECTRA fine-tunes small and base with 0.8.
    top_power: 2 as in ELECTRA's released code, which leaves a place for a
      pooler that it has not; 1 without that place.

  Raises:
    UserError: a factor out of range.
  """
  if not 0.0 < factor <= 1.0:
    raise errors.UserError(
      f"config.optimizer.factor is {factor}, expected above 0 and at most 1."
    )
  tx = optimizers.build(dict(base), learning_rate=learning_rate)
  tx = optax.with_extra_args_support(tx)

  def update(updates, state, params=None, **extra):
    # After the base, so that weight decay shrinks alike.
    updates, state = tx.update(updates, state, params, **extra)
    powers = distances(updates, top_power)
    return jax.tree.map(_scaled(factor), updates, powers), state

  return optax.GradientTransformationExtraArgs(tx.init, update)


def _scaled(factor):
  def scale(update, power):
    times = jnp.asarray(factor, jnp.float32) ** power
    times = times.reshape(power.shape + (1,) * (update.ndim - power.ndim))
    return update * times.astype(update.dtype)

  return scale


def distances(tree, top_power: int = 2):
  """How many factors each parameter takes: int32 [], or [layers] if stacked.

  Args:
    tree: the parameters of a model, or a tree of that shape.
    top_power: of the last layer.
  """
  leaves = paths.flatten(tree)
  singles = {int(m[2]) for p in leaves if (m := _UNROLLED.search(p))}
  places = {int(m[2]) for p in leaves if (m := _LOOPED.search(p))}
  turns = next((v.shape[0] for p, v in leaves.items() if _LOOPED.search(p)), 0)
  period = max(places, default=-1) + 1
  first = next(i for i in range(len(leaves) + 1) if i not in singles)
  count = max(max(singles, default=-1) + 1, first + period * turns)

  def one(path, leaf):
    del leaf
    name = paths.name(path)
    if found := _LOOPED.search(name):
      index = first + int(found[2]) + period * jnp.arange(turns)
      return count - 1 - index + top_power
    if found := _UNROLLED.search(name):
      return jnp.int32(count - 1 - int(found[2]) + top_power)
    return jnp.int32(count + top_power if _BELOW.search(name) else 0)

  return jax.tree_util.tree_map_with_path(one, tree)
