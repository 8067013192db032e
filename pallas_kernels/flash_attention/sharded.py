"""Kernels under a mesh: each device attends to its own rows and heads.

XLA cannot split a kernel, so it is wrapped in `shard_map`. Attention needs
nothing of other rows or heads: there is no collective inside. What all rows
share (a dense bias with one row, a Toeplitz bias, slopes) is given whole to
each device, and its gradient is summed over the devices once, by the
transpose of `shard_map`. The hashes of dropout come in as arrays that were
made of global indices: the same elements are dropped on any mesh.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from pallas_kernels import _compat, _platform
from pallas_kernels.flash_attention.operands import Operands

# Mesh axes that split heads; the others split rows.
HEAD_AXES = ("tensor", "model")


def attend(run: Callable, static, operands: Operands):
  """`run(static, operands)` on each device's rows and heads.

  Args:
    run: (static, operands) -> [batch, queries, heads, value_dim].
    static: options, the same on each device.
    operands: of the whole batch. The mesh is the ambient one or that on which
      they live; without one, with one device, or inside of a `shard_map` over
      all axes, `run` is called as it is.

  Returns:
    [batch, queries, heads, value_dim].

  Raises:
    NotImplementedError: rows or heads do not divide over the mesh, or some of
      its axes are already manual.
  """
  mesh = _platform.mesh_of(operands)
  free = free_axes(mesh)
  if not free:
    return run(static, operands)
  rows, heads = (axes or None for axes in split_axes(mesh))
  _check(operands, mesh, rows, heads)
  operands = _spread_key_heads(operands, ways(mesh, heads))
  places = specs(operands, rows, heads)
  if AxisType.Explicit in mesh.axis_types:
    operands = jax.tree.map(
      lambda x, spec: jax.sharding.reshard(x, NamedSharding(mesh, spec)),
      operands,
      places,
    )
  return _compat.shard_map(
    lambda operands: run(static, operands),
    mesh=mesh,
    in_specs=(places,),
    out_specs=P(rows, None, heads, None),
  )(operands)


def free_axes(mesh) -> tuple[str, ...]:
  """Axes of more than one device that XLA, not a `shard_map`, partitions.

  Raises:
    NotImplementedError: there are both such axes and manual ones.
  """
  if mesh is None:
    return ()
  large = {name: kind for name, kind in zip(mesh.axis_names, mesh.axis_types)}
  large = {name: k for name, k in large.items() if mesh.shape[name] > 1}
  manual = [name for name, k in large.items() if k == AxisType.Manual]
  free = tuple(name for name in large if name not in manual)
  if free and manual:
    raise NotImplementedError(
      f"kernels inside a shard_map need all its axes manual: {manual} are, "
      f"{list(free)} are not"
    )
  return free


def split_axes(mesh) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """(axes that split rows, axes that split heads), all of a mesh's axes."""
  heads = tuple(name for name in mesh.axis_names if name in HEAD_AXES)
  return tuple(n for n in mesh.axis_names if n not in heads), heads


def ways(mesh, axes) -> int:
  """Into how many parts these axes split an array."""
  return math.prod(mesh.shape[axis] for axis in axes or ())


def divided(mesh, batch: int, count: int) -> int:
  """On how many devices the rows and heads of a call are split by XLA.

  Args:
    mesh: the mesh.
    batch: rows.
    count: heads.
  """
  rows, heads = (ways(mesh, axes) for axes in split_axes(mesh))
  return (rows if batch % rows == 0 else 1) * (
    heads if count % heads == 0 else 1
  )


def specs(operands: Operands, rows, heads) -> Operands:
  """The partition of each operand, None where it is absent.

  Args:
    operands: arrays or shapes.
    rows: mesh axes that split the batch.
    heads: mesh axes that split heads.
  """

  def of(name, *parts):
    value = getattr(operands, name)
    if value is None:
      return None
    # One row or one head is shared by all.
    pairs = zip(parts, value.shape, strict=True)
    return P(*(None if size == 1 else part for part, size in pairs))

  return Operands(
    query=P(rows, None, heads, None),
    key=P(rows, None, heads, None),
    value=P(rows, None, heads, None),
    query_segments=of("query_segments", rows, None),
    key_segments=of("key_segments", rows, None),
    slopes=of("slopes", heads),
    toeplitz=of("toeplitz", heads, None),
    theta=of("theta", None, heads),
    query_first=of("query_first", rows, None),
    key_first=of("key_first", rows, None),
    dense=of("dense", rows, heads, None, None),
    c2p=of("c2p", rows, None, heads, None),
    p2c=of("p2c", rows, None, heads, None),
    c2p_buckets=of("c2p_buckets", None),
    p2c_buckets=of("p2c_buckets", None),
    row_hash=of("row_hash", rows, heads, None),
    column_seed=of("column_seed", None),
  )


def _check(operands, mesh, rows, heads) -> None:
  batch, _, count, _ = operands.query.shape
  shown = ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
  for what, size, axes in (("rows", batch, rows), ("heads", count, heads)):
    if size % ways(mesh, axes):
      # The automatic choice then falls back to XLA's own code.
      raise NotImplementedError(
        f"{size} {what} do not divide over {' x '.join(axes)} = "
        f"{ways(mesh, axes)} of the mesh ({shown})"
      )


def _spread_key_heads(operands: Operands, count: int) -> Operands:
  """Fewer key heads than devices: each has a copy of the one it needs.

  The gradient of a copy is summed by XLA, outside of the kernel.
  """
  key_heads = operands.key.shape[2]
  copies = math.lcm(key_heads, count) // key_heads
  if copies == 1:
    return operands
  spread = lambda x: jnp.repeat(x, copies, axis=2)
  return dataclasses.replace(
    operands, key=spread(operands.key), value=spread(operands.value)
  )
