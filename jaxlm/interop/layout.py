"""The arrays that a model of a spec has, without making them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import paths
from jaxlm.errors import UserError
from jaxlm.layers.stacks.arrangement import scanned, unrolled
from jaxlm.models import assembly

UNROLLED, SCANNED = "sequential", "scan"


def shapes(spec: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """{path: shape} of every parameter, layers one by one.

  Args:
    spec: sets `vocab_size` and heads' classes.

  Raises:
    UserError: an unknown key, kind or field, or parts that do not fit.
  """
  model = assembly.build({**spec, "stack": {"kind": UNROLLED}})
  batch = {"inputs": jnp.zeros((1, 2), jnp.int32)}
  tree = jax.eval_shape(
    lambda key: nn.meta.unbox(model.init(key, batch)["params"]),
    jax.random.key(0),
  )
  return {path: leaf.shape for path, leaf in paths.flatten(tree).items()}


def flat(
  params: Mapping[str, Any], spec: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """{path: array on the host}, layers one by one, float32 or float64.

  Args:
    params: as `spec` keeps them, scanned or not, boxed or not.
    spec: its `stack` and `order` say how.
  """
  nested = jax.tree.map(_host, nn.meta.unbox(params))
  if stack_kind(spec) == SCANNED:
    nested = unrolled(nested, assembly.layer_order(spec))
  return paths.flatten(nested)


def tree(arrays: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
  """Parameters as `spec` keeps them; the inverse of `flat`."""
  nested = paths.unflatten(arrays)
  if stack_kind(spec) == SCANNED:
    return scanned(nested, assembly.layer_order(spec))
  return nested


def stack_kind(spec: Mapping[str, Any]) -> str:
  """'sequential' or 'scan'.

  Raises:
    UserError: a stack that keeps its parameters in another way.
  """
  kind = spec.get("stack", {}).get("kind", UNROLLED)
  if kind not in (UNROLLED, SCANNED):
    raise UserError(
      f"config.model.stack is of kind '{kind}', whose parameters cannot be "
      f"told apart layer by layer; '{UNROLLED}' and '{SCANNED}' can."
    )
  return kind


def _host(leaf) -> np.ndarray:
  array = np.asarray(leaf)
  return array if array.dtype == np.float64 else array.astype(np.float32)
