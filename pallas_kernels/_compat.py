"""What differs between jax versions, in one place (0.10.2 to the newest)."""

import inspect
import warnings

import jax
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import triton as pltriton

# Still there and complete up to 0.12; narrow, so that others are seen.
warnings.filterwarnings(
  "ignore", message="The Pallas Triton backend is deprecated"
)


def triton_params(*, num_warps: int, num_stages: int):
  """Compiler parameters that choose the Triton backend (not Mosaic's)."""
  return pltriton.CompilerParams(num_warps=num_warps, num_stages=num_stages)


def shard_map(function, *, mesh, in_specs, out_specs):
  """`jax.shard_map` over every axis, without checks of replication.

  Partly manual meshes and checked replication fail for kernels on TPU.
  """
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=in_specs,
    out_specs=out_specs,
    check_vma=False,
  )


# The GPU interpreter became public when it learned layouts and transposition.
MOSAIC_GPU_INTERPRETS_WGMMA = hasattr(plgpu, "InterpretGPUParams")


def mosaic_gpu_interpreter():
  """What `plgpu.kernel` takes as `interpret` to run on any device."""
  if MOSAIC_GPU_INTERPRETS_WGMMA:
    return plgpu.InterpretGPUParams()
  from jax._src.pallas.mosaic_gpu.interpret import params

  return params.InterpretGPUParams()


def mosaic_gpu_load(ref, layout):
  """The whole of a reference in a layout."""
  if "idx" in inspect.signature(plgpu.load).parameters:  # before 0.11
    return plgpu.load(ref, (), layout=layout)
  return plgpu.load(ref, layout=layout)
