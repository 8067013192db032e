"""The kernels under a mesh: each device convolves its own rows and heads."""

from collections.abc import Callable

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from pallas_kernels import _compat, _platform
from pallas_kernels.flash_attention import sharded


def convolve(run: Callable, values, logits, segments):
  """`run(values, logits, segments)` on each device's rows and heads.

  As in `flash_attention.sharded`: nothing of other rows or heads is needed, so
  there is no collective; mesh axes `tensor` or `model` split heads, the others
  rows.

  Raises:
    NotImplementedError: rows or heads do not divide over the mesh, or some of
      its axes are already manual.
  """
  mesh = _platform.mesh_of((values, logits))
  if not sharded.free_axes(mesh):
    return run(values, logits, segments)
  rows, heads = (axes or None for axes in sharded.split_axes(mesh))
  for what, size, axes in zip(
    ("rows", "heads"), (values.shape[0], values.shape[2]), (rows, heads)
  ):
    if size % sharded.ways(mesh, axes):
      raise NotImplementedError(
        f"{size} {what} do not divide over {' x '.join(axes)} = "
        f"{sharded.ways(mesh, axes)} of the mesh"
      )
  array = P(rows, None, heads, None)
  places = (array, array, None if segments is None else P(rows, None))
  arguments = values, logits, segments
  if AxisType.Explicit in mesh.axis_types:
    arguments = jax.tree.map(
      lambda x, spec: jax.sharding.reshard(x, NamedSharding(mesh, spec)),
      arguments,
      places,
    )
  return _compat.shard_map(run, mesh=mesh, in_specs=places, out_specs=array)(
    *arguments
  )
