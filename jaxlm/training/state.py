"""The train state: all that a step reads and writes, made where it lives."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxlm import errors, paths, sharding
from jaxlm.types import Array, BatchSpec

# Collections that `model.init` makes but that are not kept between steps.
_TRANSIENT = ("params", "intermediates", "cache")


@flax.struct.dataclass
class TrainState:
  """A run between two steps.

  Attributes:
    step: int32 scalar, updates done. An array: a Python int compiles twice.
    params: the parameters, nested dicts of arrays.
    opt_state: the optimizer's state.
    extra: mutable collections of the model and frozen trees (a teacher).
    key: uint32 key data, from which each step folds its own key.
  """

  step: Array
  params: Any
  opt_state: Any
  extra: Any
  key: Array


def dummy_batch(spec: BatchSpec) -> dict[str, Array]:
  """One row of zeros of each entry of a batch: enough to initialise with."""
  return {k: jnp.zeros((1, *v.shape[1:]), v.dtype) for k, v in spec.items()}


def initial(model, tx, batch_spec: BatchSpec, seed) -> TrainState:
  """A fresh state whose parameters are still boxed with their axis names.

  Args:
    model: a Linen module; `model.init(rngs, batch, train=False)`.
    tx: an optax transformation.
    batch_spec: shapes of the batch.
    seed: int, or a uint32 scalar.
  """
  init_key, train_key = jax.random.split(jax.random.key(seed))
  params_key, dropout_key = jax.random.split(init_key)
  variables = model.init(
    {"params": params_key, "dropout": dropout_key},
    dummy_batch(batch_spec),
    train=False,
  )
  params = variables["params"]
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=tx.init(nn.unbox(params)),
    extra={k: v for k, v in variables.items() if k not in _TRANSIENT},
    key=jax.random.key_data(train_key),
  )


def abstract(
  model,
  tx: optax.GradientTransformation,
  batch_spec: BatchSpec,
  mesh: Mesh,
  rules: Mapping[str, Any] | None = None,
) -> TrainState:
  """Shapes, dtypes and shardings of the state; computes nothing.

  Raises:
    UserError: a parameter with an unknown logical axis.
  """
  boxed = jax.eval_shape(lambda: initial(model, tx, batch_spec, 0))
  shardings = sharding.state_shardings(boxed, mesh, rules)
  return jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place
    ),
    nn.unbox(boxed),
    shardings,
  )


def create(
  model,
  tx: optax.GradientTransformation,
  batch_spec: BatchSpec,
  *,
  seed: int,
  mesh: Mesh,
  rules: Mapping[str, Any] | None = None,
  params: Mapping[str, Any] | None = None,
) -> TrainState:
  """A fresh state, each array made on the devices that hold it.

  Args:
    model: a Linen module.
    tx: an optax transformation.
    batch_spec: shapes of the batch.
    seed: of the initialisation and of every step's key.
    mesh: the mesh.
    rules: overrides of `sharding.RULES`.
    params: nested dicts of host arrays that take the place of initialised
      parameters; those that it lacks stay as initialised.

  Raises:
    UserError: `params` has a path or a shape that the model has not.
  """
  shapes = abstract(model, tx, batch_spec, mesh, rules)
  shardings = shardings_of(shapes)
  make = jax.jit(
    lambda seed: nn.unbox(initial(model, tx, batch_spec, seed)),
    out_shardings=shardings,
  )
  state = make(np.uint32(seed % 2**32))
  if not params:
    return state
  state = state.replace(params=with_params(state.params, params))
  if hasattr(model, "started"):  # keeps what it starts from
    begin = jax.jit(model.started, out_shardings=shardings.extra)
    state = state.replace(extra=begin(state.params, state.extra))
  # Some optimizers start from the parameters (averages, anchors).
  start = jax.jit(tx.init, out_shardings=shardings.opt_state)
  return state.replace(opt_state=start(state.params))


def shardings_of(tree):
  """The tree with each array or shape replaced by its sharding."""
  return jax.tree.map(lambda leaf: leaf.sharding, tree)


def with_params(params, given: Mapping[str, Any]):
  """`params` with the leaves of `given` in their places, sharded alike.

  Raises:
    UserError: a path or shape of `given` that `params` lacks.
  """
  leaves, new = paths.flatten(params), paths.flatten(given)
  wrong = []
  for path, value in new.items():
    if path not in leaves:
      wrong.append(f"{path}: not in the model{errors.nearest(path, leaves)}")
    elif tuple(value.shape) != leaves[path].shape:
      wrong.append(f"{path}: {value.shape}, the model {leaves[path].shape}")
  if wrong:
    raise errors.UserError(
      "The given parameters are of another model:\n  " + "\n  ".join(wrong)
    )

  def put(path, leaf):
    if (path := paths.name(path)) not in new:
      return leaf
    value = np.asarray(new[path]).astype(leaf.dtype)
    return jax.make_array_from_callback(
      leaf.shape, leaf.sharding, lambda index: value[index]
    )

  return jax.tree_util.tree_map_with_path(put, params)
