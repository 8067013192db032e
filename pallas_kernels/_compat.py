"""What differs between jax versions, in one place (0.10.2 to the newest)."""

import inspect
import warnings

import jax

# Still there and complete up to 0.12; narrow, so that others are seen.
warnings.filterwarnings(
  "ignore", message="The Pallas Triton backend is deprecated"
)


def version() -> tuple[int, int]:
  """That of jax, such as (0, 10)."""
  return jax.__version_info__[:2]


def triton_params(*, num_warps: int, num_stages: int):
  """Compiler parameters that choose the Triton backend (not Mosaic's)."""
  from jax.experimental.pallas import triton

  return triton.CompilerParams(num_warps=num_warps, num_stages=num_stages)


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


def mosaic_gpu_interpreter():
  """What `plgpu.kernel` takes as `interpret` to run on any device."""
  if mosaic_gpu_interprets_wgmma():
    from jax.experimental.pallas import mosaic_gpu as params
  else:
    from jax._src.pallas.mosaic_gpu.interpret import params

  return params.InterpretGPUParams()


def mosaic_gpu_interprets_wgmma() -> bool:
  """Whether the interpreter, by then public, knows transposed products."""
  from jax.experimental.pallas import mosaic_gpu

  return hasattr(mosaic_gpu, "InterpretGPUParams")


def mosaic_gpu_load(ref, layout):
  """The whole of a reference in a layout."""
  from jax.experimental.pallas import mosaic_gpu

  index = inspect.signature(mosaic_gpu.load).parameters.get("idx")
  if index is not None and index.default is index.empty:  # before 0.11
    return mosaic_gpu.load(ref, (), layout=layout)
  return mosaic_gpu.load(ref, layout=layout)
