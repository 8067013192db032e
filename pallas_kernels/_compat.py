"""What differs between jax versions, in one place (0.10.2 to the newest)."""

import warnings

import jax
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
