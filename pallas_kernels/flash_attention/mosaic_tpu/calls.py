"""One `pallas_call` from named inputs and outputs that say where they lie."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels import _platform
from pallas_kernels.flash_attention import masks


@dataclasses.dataclass(frozen=True)
class Input:
  """An array and its block.

  Attributes:
    array: what the kernel reads.
    block: sizes along each axis; None for one element, whose axis is gone.
    index: Place -> block indices; None puts the whole array in SMEM.
  """

  array: jax.Array
  block: tuple | None = None
  index: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Output:
  """A result and its block, see `Input`.

  Attributes:
    shape: of the whole.
    dtype: of the whole.
    block: sizes along each axis.
    index: Place -> block indices.
    zero: when the kernel must zero it: 'head', 'key' (at the first tile of a
      head or of a block of keys) or None.
  """

  shape: tuple
  dtype: object
  block: tuple
  index: Callable
  zero: str | None = None


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Which inner blocks an outer block visits; all where ranges is None.

  Attributes:
    outer: blocks of the outer axis.
    inner: blocks of the inner axis.
    ranges: [batch * outer * 4] int32, see `masks.key_ranges`, or None.
  """

  outer: int
  inner: int
  ranges: jax.Array | None = None

  @property
  def prefetch(self) -> tuple:
    """Scalars that index maps and kernels read."""
    return () if self.ranges is None else (self.ranges,)

  def _range(self, scalars, batch, outer):
    start = (batch * self.outer + outer) * 4
    return tuple(scalars[0][start + n] for n in range(4))

  def block(self, scalars, batch, outer, step):
    """The inner block of a step; past the range it stays, nothing is read."""
    if not scalars:
      return step
    low, _, _, high = self._range(scalars, batch, outer)
    return jnp.maximum(jnp.minimum(low + step, high - 1), 0)

  def visited(self, scalars, batch, outer, step):
    """(does the step work on a block, is every element of it seen)."""
    if not scalars:
      return True, True
    low = self._range(scalars, batch, outer)[0]
    return self.holds(scalars, batch, outer, low + step)

  def holds(self, scalars, batch, outer, block):
    """(is something of an inner block seen, is every element of it)."""
    if not scalars:
      return True, True
    low, full_low, full_high, high = self._range(scalars, batch, outer)
    seen = (low <= block) & (block < high)
    return seen, (full_low <= block) & (block < full_high)


def schedule(static, operands, shape, *, by_query: bool) -> Schedule:
  """The schedule of blocks of keys per block of queries, or the reverse."""
  outer, inner = shape.q_blocks, shape.k_blocks
  if not by_query:
    outer, inner = inner, outer
  hides = static.causal or static.window is not None
  if not hides and operands.query_segments is None:
    return Schedule(outer, inner)
  find = masks.key_ranges if by_query else masks.query_ranges
  ranges = find(
    batch=shape.batch,
    queries=shape.queries,
    keys=shape.keys,
    block_q=shape.block_q,
    block_k=shape.block_k,
    query_segments=operands.query_segments,
    key_segments=operands.key_segments,
    causal=static.causal,
    window=static.window,
    query_offset=static.query_offset,
  )
  return Schedule(outer, inner, ranges.reshape(-1))


def when(condition, body: Callable):
  """Runs `body` where condition holds; a Python bool costs no branch."""
  if condition is True:
    body()
  elif condition is not False:
    pl.when(condition)(body)


def both(first, second):
  """`first & second` of booleans that may be Python's."""
  if first is True:
    return second
  return first if second is True else first & second


def call(
  kernel: Callable,
  *,
  name: str,
  grid: tuple,
  parallel: int,
  place: Callable,
  inputs: dict,
  outputs: dict,
  scratch: dict,
  scalars: tuple,
  cost: pl.CostEstimate,
  interpret,
) -> dict:
  """Runs `kernel(ref, scalars, ids)` over the grid; its outputs by name.

  Args:
    kernel: is given a dict of references by name (inputs, outputs, scratch),
      the scalar references and the grid's indices.
    name: of the call, in profiles.
    grid: steps along each axis.
    parallel: how many leading axes have independent steps.
    place: (ids, scalar references) -> Place, for the index maps.
    inputs: `Input`s by name.
    outputs: `Output`s by name.
    scratch: VMEM shapes, float32, by name.
    scalars: arrays to prefetch.
    cost: what XLA's scheduler should assume.
    interpret: False, True or `pltpu.InterpretParams`.
  """
  names = [*inputs, *outputs, *scratch]
  axes = len(grid)

  def index_map(index):
    return lambda *a: index(place(a[:axes], a[axes:]))

  def spec(x):
    if x.block is None:
      return pl.BlockSpec(memory_space=pltpu.SMEM)
    return pl.BlockSpec(x.block, index_map(x.index))

  def body(*refs):
    given, rest = refs[: len(scalars)], refs[len(scalars) :]
    ids = tuple(pl.program_id(n) for n in range(axes))
    kernel(dict(zip(names, rest, strict=True)), given, ids)

  results = pl.pallas_call(
    body,
    out_shape=[
      jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs.values()
    ],
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(scalars),
      grid=grid,
      in_specs=[spec(x) for x in inputs.values()],
      out_specs=[spec(x) for x in outputs.values()],
      scratch_shapes=[pltpu.VMEM(s, jnp.float32) for s in scratch.values()],
    ),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel",) * parallel
      + ("arbitrary",) * (axes - parallel),
      vmem_limit_bytes=vmem_limit(inputs, outputs, scratch),
    ),
    cost_estimate=cost,
    interpret=interpret,
    name=name,
  )(*scalars, *[x.array for x in inputs.values()])
  return dict(zip(outputs, results, strict=True))


_MIB = 2**20
# Of a core's fast memory, what kernels may fill: v5e and v6e have 128 MiB,
# v5p and v7x 64.
_VMEM = {"TPU v5 lite": 120 * _MIB, "TPU v6 lite": 120 * _MIB}
_LEAST = 60 * _MIB
# What the compiler may use for temporaries of a tile.
_TEMPORARY = 24 * _MIB


def vmem_limit(inputs: dict, outputs: dict, scratch: dict) -> int:
  """Bytes of fast memory to ask for.

  Raises:
    NotImplementedError: the accumulators of a head don't fit.
  """
  blocks = [(x.block, x.array.dtype) for x in inputs.values()]
  blocks += [(x.block, x.dtype) for x in outputs.values()]
  # Blocks are held twice: one is copied while the other is in use.
  need = sum(2 * _bytes(b, d) for b, d in blocks if b is not None)
  need += sum(_bytes(s, jnp.float32) for s in scratch.values())
  kind = _platform.target([x.array for x in inputs.values()]).kind
  room = _VMEM.get(kind, _LEAST) - _TEMPORARY
  if need > room:
    raise NotImplementedError(
      f"mosaic_tpu attention would hold {need // _MIB} MiB in fast memory, "
      f"where there are {room // _MIB}: gradients of a head's queries stay "
      "there, and these rows are too long or tables too wide"
    )
  return need + _TEMPORARY


def _bytes(block, dtype) -> int:
  """Bytes of a block in memory that is tiled by (8, 128) words."""
  sizes = [1 if n is None else n for n in block]
  if len(sizes) > 1:
    sizes[-2] = -(-sizes[-2] // 8) * 8
  sizes[-1] = -(-sizes[-1] // 128) * 128
  total = jnp.dtype(dtype).itemsize
  for n in sizes:
    total *= n
  return total
