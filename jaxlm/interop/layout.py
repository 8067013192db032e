"""The arrays that a model of a spec has, without making them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import paths
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
  model = assembly.build(_with_stack(spec, SCANNED, UNROLLED))
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
  return paths.flatten(_arranged(nested, spec, unrolled))


def tree(arrays: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
  """Parameters as `spec` keeps them; the inverse of `flat`."""
  return _arranged(paths.unflatten(arrays), spec, scanned)


def stack_kind(spec: Mapping[str, Any]) -> str:
  """The kind of the stack; all but 'scan' keep layers one by one."""
  return spec.get("stack", {}).get("kind", UNROLLED)


def quick(spec: Mapping[str, Any]) -> dict[str, Any]:
  """The spec with loops over its equal layers, which compile faster."""
  return _with_stack(spec, UNROLLED, SCANNED)


def _with_stack(spec, kind, other):
  """The spec with stacks of another kind in place of those of `kind`."""
  if "towers" in spec:
    towers = spec["towers"].items()
    parts = {name: _with_stack(part, kind, other) for name, part in towers}
    return {**spec, "towers": parts}
  if stack_kind(spec) != kind:
    return dict(spec)
  return {**spec, "stack": {**spec.get("stack", {}), "kind": other}}


def _arranged(nested, spec, rearrange):
  """The scanned stacks of all towers, rearranged."""
  made = dict(nested)
  for name, tower in assembly.towers(spec).items():
    if stack_kind(tower) != SCANNED:
      continue
    own = rearrange(made[name] if name else made, assembly.layer_order(tower))
    made = {**made, name: own} if name else own
  return made


def _host(leaf) -> np.ndarray:
  array = np.asarray(leaf)
  return array if array.dtype == np.float64 else array.astype(np.float32)
