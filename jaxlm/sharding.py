"""Where arrays live: a mesh, and rules from logical axes to mesh axes.

Parameters carry logical names (`flax.linen.with_logical_partitioning`); the
rules say which mesh axis shards which name, so that a model knows nothing of
devices. The mesh has three axes: `data` holds copies of the parameters, `fsdp`
splits parameters and the batch (Rajbhandari et al., arXiv:1910.02054),
`tensor` splits matrices (Shoeybi et al., arXiv:1909.08053).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlm import errors, paths

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")

# Logical axis -> mesh axes; None replicates.
RULES: Mapping[str, str | tuple[str, ...] | None] = {
  "batch": BATCH,
  "embed": "fsdp",
  "mlp": "tensor",
  "heads": "tensor",
  "vocab": "tensor",
  "layers": None,
  "length": None,
}


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """A mesh with axes `data`, `fsdp`, `tensor`.

  Args:
    data: copies of the parameters; -1 takes the devices that are left, which
      any one of the three may.
    fsdp: parts that parameters, optimizer state and batch are split into.
    tensor: parts that single matrices are split into.
    devices: default: all devices of all processes, in their order, so that
      the rows of one process are neighbours.

  Raises:
    UserError: the sizes do not divide the devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
  free = [axis for axis, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  shown = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
  if len(free) > 1 or any(s < 1 and s != -1 for s in sizes.values()):
    raise errors.UserError(
      f"config.mesh is {shown}; each is a size from 1, and at most one is -1."
    )
  count = len(devices)
  if count % fixed or (not free and fixed != count):
    fits = [n for n in range(1, count + 1) if count % n == 0]
    raise errors.UserError(
      f"config.mesh ({shown}) needs {'a multiple of ' if free else ''}{fixed} "
      f"devices, but there are {count}. Sizes that divide {count}: "
      f"{', '.join(map(str, fits))}; the product must be {count}, or leave one "
      "at -1."
    )
  if free:
    sizes[free[0]] = count // fixed
  return Mesh(np.array(devices).reshape(tuple(sizes.values())), AXES)


def with_overrides(rules: Mapping[str, Any] | None) -> dict[str, Any]:
  """RULES with a config's rules over them.

  Raises:
    UserError: a rule names a mesh axis that does not exist.
  """
  merged = {**RULES, **(rules or {})}
  for name, axes in merged.items():
    for axis in _axes(axes):
      if axis not in AXES:
        raise errors.unknown(
          f"The sharding rule for '{name}' names a mesh axis", axis, AXES
        )
  return merged


def spec_of(
  names: Sequence[str | None],
  shape: Sequence[int],
  mesh: Mesh,
  rules: Mapping[str, Any],
  path: str = "",
) -> PartitionSpec:
  """The partition of an array whose axes have logical names.

  A dimension that its mesh axes do not divide is replicated, and so is one
  whose mesh axes an earlier dimension of the same array already took.

  Raises:
    UserError: a name without a rule; the message has the array's path.
  """
  taken: set[str] = set()
  parts = []
  for name, size in zip(names, shape, strict=True):
    if name is not None and name not in rules:
      raise errors.unknown(
        f"Parameter {path} has an axis without a sharding rule,", name, rules
      )
    axes = _axes(rules[name]) if name is not None else ()
    if taken & set(axes) or size % _ways(mesh, axes):
      axes = ()
    taken |= set(axes)
    parts.append(axes[0] if len(axes) == 1 else axes or None)
  return PartitionSpec(*parts)


def state_shardings(state, mesh: Mesh, rules: Mapping[str, Any] | None = None):
  """A sharding for each array of a state, as a tree without name boxes.

  Args:
    state: a tree of shapes, its `params` boxed with logical names, as
      `jax.eval_shape` of an initialisation gives it. Optimizer state follows
      the parameter whose path ends its own and whose shape it has; all else
      (counts, factored moments, keys) is replicated.
    mesh: the mesh.
    rules: overrides of RULES.

  Raises:
    UserError: an unknown logical name, with the parameter's path.
  """
  rules = with_overrides(rules)
  replicated = NamedSharding(mesh, PartitionSpec())
  known: dict[str, tuple[tuple[int, ...], NamedSharding]] = {}

  def named(path, leaf):
    if not isinstance(leaf, nn.LogicallyPartitioned):
      return leaf
    path, shape = paths.name(path), leaf.value.shape
    spec = spec_of(leaf.names, shape, mesh, rules, path)
    sharding = NamedSharding(mesh, spec)
    known[path.removeprefix("params/")] = (shape, sharding)
    return sharding

  def rest(path, leaf):
    if isinstance(leaf, NamedSharding):
      return leaf
    parts = paths.name(path).split("/")
    for start in range(len(parts)):
      shape, sharding = known.get("/".join(parts[start:]), (None, None))
      if shape == leaf.shape:
        return sharding
    return replicated

  boxed = lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
  tree = jax.tree_util.tree_map_with_path(named, state, is_leaf=boxed)
  return jax.tree_util.tree_map_with_path(rest, tree)


def gathered(shardings):
  """The shardings with `fsdp` taken out: each device has the whole rows."""

  def drop(place):
    spec = [tuple(a for a in _axes(axes) if a != "fsdp") for axes in place.spec]
    parts = [axes[0] if len(axes) == 1 else axes or None for axes in spec]
    return NamedSharding(place.mesh, PartitionSpec(*parts))

  return jax.tree.map(drop, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over `data` and `fsdp`, the other axes whole."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def batch_ways(mesh: Mesh) -> int:
  """Into how many parts the mesh splits the rows of a batch."""
  return _ways(mesh, BATCH)


def check_batch(batch_size: int, mesh: Mesh, microbatches: int = 1) -> None:
  """Raises unless each microbatch spreads evenly over the mesh.

  Raises:
    UserError: it does not; the message has the nearest sizes that do.
  """
  ways = batch_ways(mesh)
  unit = ways * microbatches
  if microbatches < 1:
    raise errors.UserError(
      f"config.microbatches is {microbatches}, expected 1 or more."
    )
  if batch_size < 1 or batch_size % unit:
    below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
    sizes = f"{below} or {above}" if below > 0 else str(above)
    raise errors.UserError(
      f"config.batch_size={batch_size} does not divide over {ways} devices "
      f"(mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}) in "
      f"{microbatches} microbatch{'es' if microbatches > 1 else ''}: it must "
      f"be a multiple of {unit}. Nearest: {sizes}."
    )


def process_shard(mesh: Mesh, batch_size: int) -> tuple[int, int]:
  """(index, count): which part of the batch's rows this process feeds."""
  places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
  ranges = [index[0].indices(batch_size)[:2] for index in places.values()]
  low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
  rows = high - low
  if batch_size % rows or low % rows:
    raise errors.UserError(
      f"Process {jax.process_index()} would hold rows {low} to {high} of "
      f"{batch_size}, which is not an equal part: give every process the same "
      "number of devices, and a batch that divides over them."
    )
  return low // rows, batch_size // rows


def shard_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
  """Global arrays from this process's rows.

  Args:
    batch: arrays [rows of this process, ...], the same rows in each.
    mesh: the mesh.

  Raises:
    UserError: the rows do not divide over the mesh.
  """
  sharding = batch_sharding(mesh)
  local = len({d for d in mesh.devices.flat if _is_here(d)})
  ways = batch_ways(mesh)
  # Processes that share rows (tensor across processes) each hold all of them.
  index_count = process_shard(mesh, ways)[1] if local else 1
  placed = {}
  for key, value in batch.items():
    rows = value.shape[0] * index_count
    check_batch(rows, mesh)
    placed[key] = jax.make_array_from_process_local_data(
      sharding, np.asarray(value), (rows, *value.shape[1:])
    )
  return placed


def _is_here(device) -> bool:
  return device.process_index == jax.process_index()


def _axes(axes) -> tuple[str, ...]:
  if axes is None:
    return ()
  return (axes,) if isinstance(axes, str) else tuple(axes)


def _ways(mesh: Mesh, axes) -> int:
  return math.prod(mesh.shape[axis] for axis in axes)
