"""Hopper's instructions as kernels use them, also where they are interpreted.

Pallas' GPU interpreter runs warpgroups, TMA copies and barriers as they are
written, but knows no products whose left side lies in registers, none that
add to a value, and in old versions no layouts. Only these single operations
are told to it in other words; what surrounds them is the same program.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from pallas_kernels import _compat

LOG2E = math.log2(math.e)
AXES = ("heads", "blocks", "batch")
THREAD = "warpgroup"
# Two warpgroups compute, one moves data: 128 threads each.
COMPUTING = 2
# Registers a thread: (2 * 240 + 24) * 128 of the 65536 that there are.
COMPUTE_REGISTERS, COPY_REGISTERS = 240, 24


@dataclasses.dataclass(frozen=True)
class Machine:
  """Where a kernel runs.

  Attributes:
    interpret: in Pallas' interpreter instead of on the GPU.
  """

  interpret: bool

  def zeros(self, shape):
    """A float32 matrix of zeros, as the tensor cores hold it."""
    return self._as(jnp.zeros(shape, jnp.float32), plgpu.Layout.WGMMA)

  def per_row(self, size: int, value: float):
    """One float32 for each row of a matrix."""
    x = jnp.full((size,), value, jnp.float32)
    return self._as(x, plgpu.Layout.WGMMA.reduce(1))

  def places(self, size: int, axis: int):
    """int32 0..size-1, as the numbers along an axis of a matrix are held."""
    x = jax.lax.broadcasted_iota(jnp.int32, (size,), 0)
    return self._as(x, plgpu.Layout.WGMMA.reduce(1 - axis))

  def load_rows(self, ref):
    """A vector in shared memory, one value for each row of a matrix."""
    return self._load(ref, 0)

  def load(self, ref, shape, axis: int):
    """A vector in shared memory, repeated to a matrix of `shape`.

    Its values belong to the places along `axis`.
    """
    return jax.lax.broadcast_in_dim(self._load(ref, axis), shape, [axis])

  def product(self, a, b, *, transpose_b=False, issued: Callable = None):
    """a @ b (or a @ b.T) in float32, of matrices in shared memory.

    `issued()` runs while the tensor cores are at work.
    """
    issued = issued or (lambda: None)
    if self.interpret and not _compat.mosaic_gpu_interprets_wgmma():
      found = _dot(a[...], b[...].T if transpose_b else b[...])
      issued()
      return found

    def run(total):
      plgpu.wgmma(total, a, b.transpose((1, 0)) if transpose_b else b)
      issued()
      return total[...]

    shape = (a.shape[0], b.shape[0 if transpose_b else 1])
    return pl.run_scoped(run, plgpu.ACC(shape, jnp.float32))

  def add_product(self, total, a, b, *, transpose_b=False):
    """total + a @ b (or a @ b.T), of `a` in registers or shared memory."""
    if self.interpret:
      if isinstance(a, jax.Array):
        return total + _dot(a, b[...])
      return total + self.product(a, b, transpose_b=transpose_b)
    b = b.transpose((1, 0)) if transpose_b else b
    add = lambda ref: plgpu.wgmma(ref, a, b)
    return pl.run_state(add)(plgpu.ACC.init(total))

  def _load(self, ref, axis):
    if self.interpret:
      return ref[...]
    layout = plgpu.Layout.WGMMA.reduce(1 - axis)
    return _compat.mosaic_gpu_load(ref, layout)

  def _as(self, x, layout):
    return x if self.interpret else plgpu.layout_cast(x, layout)


def _dot(a, b):
  return jax.lax.dot(a, b, preferred_element_type=jnp.float32)


def rows(vector, shape):
  """A vector with a value for each row, repeated to a matrix."""
  return jax.lax.broadcast_in_dim(vector, shape, [0])


def matrix_memory(*shape, dtype):
  """Shared memory for matrices that tensor cores read."""
  transforms = plgpu.TilingTransform((8, 64)), plgpu.SwizzleTransform(128)
  return plgpu.SMEM(shape, dtype, transforms=transforms)


def launch(
  body: Callable, *, name: str, interpret: bool, grid, inputs, outputs, scratch
) -> dict:
  """Runs a kernel of two computing warpgroups and one that copies.

  Args:
    body: takes one dict of the references of inputs, outputs and scratch.
    name: of the kernel, in profiles.
    interpret: see `Machine`.
    grid: sizes of `AXES`.
    inputs: name -> array.
    outputs: name -> shape and dtype.
    scratch: name -> shared memory or barriers.

  Returns:
    name -> array, of the outputs.
  """
  names = [*inputs, *outputs, *scratch]

  def kernel(*refs):
    body(dict(zip(names, refs, strict=True)))

  found = plgpu.kernel(
    kernel,
    out_type=list(outputs.values()),
    scratch_types=list(scratch.values()),
    grid=grid,
    grid_names=AXES,
    num_threads=COMPUTING + 1,
    thread_name=THREAD,
    kernel_name=name,
    compiler_params=plgpu.CompilerParams(approx_math=True),
    interpret=_compat.mosaic_gpu_interpreter() if interpret else None,
  )(*inputs.values())
  return dict(zip(outputs, found, strict=True))


def roles(compute: Callable, copy: Callable) -> None:
  """Runs compute(its number) on two warpgroups and copy() on the third."""
  warpgroup = jax.lax.axis_index(THREAD)

  @pl.when(warpgroup < COMPUTING)
  def _():
    plgpu.set_max_registers(COMPUTE_REGISTERS, action="increase")
    compute(warpgroup)

  @pl.when(warpgroup == COMPUTING)
  def _():
    plgpu.set_max_registers(COPY_REGISTERS, action="decrease")
    copy()


def int32(x):
  """A Python or traced integer as an int32 scalar."""
  return np.int32(x) if isinstance(x, int) else x.astype(jnp.int32)
