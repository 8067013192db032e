"""The tools find what they are made to find, in kernels made for it."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec

from pallas_kernels import _compat
from pallas_kernels.testing import aot, bundles, hlo, lints, sass

pytestmark = pytest.mark.aot


def _weigh(x_ref, y_ref, out_ref):
  """exp2(x y^T) y, as attention without its normalization."""
  scores = jnp.dot(x_ref[...], y_ref[...].T, preferred_element_type=jnp.float32)
  weights = jnp.exp2(scores).astype(x_ref.dtype)
  out_ref[...] = jnp.dot(
    weights, y_ref[...], preferred_element_type=jnp.float32
  )


def _weighed(rows=128, width=64, warps=8, name="weigh"):
  """(function, shapes) of one program of `_weigh`, for Triton."""
  shape = jax.ShapeDtypeStruct((rows, width), jnp.bfloat16)
  run = pl.pallas_call(
    _weigh,
    out_shape=jax.ShapeDtypeStruct((rows, width), jnp.float32),
    compiler_params=_compat.triton_params(num_warps=warps, num_stages=1),
    name=name,
  )
  return lambda x, y: run(x, y), (shape, shape)


def test_hopper_multiplies_by_wgmma_and_ampere_by_mma(need):
  need("h200", "a100")
  (hopper,) = sass.report(aot.compile_for("h200", *_weighed()))
  (ampere,) = sass.report(aot.compile_for("a100", *_weighed()))
  # 128 x 64 by 64 x 128 is 4 HGMMA for each of two warp groups, which run
  # the same code; the second product is 8.
  assert (hopper.count("HGMMA"), hopper.count("HMMA")) == (12, 0)
  assert ampere.count("HMMA") == 128
  assert hopper.name == ampere.name == "weigh"
  assert lints.gpu(hopper, "HGMMA") == lints.gpu(ampere, "HMMA") == []
  (finding,) = lints.tensor_cores(ampere, "HGMMA")
  assert "0 HGMMA and 128 HMMA" in finding


def test_small_tiles_miss_the_tensor_cores_of_hopper(need):
  need("h200")
  (kernel,) = sass.report(aot.compile_for("h200", *_weighed(32, 64, 4)))
  assert kernel.count("HGMMA") == 0 and kernel.count("HMMA") > 0
  assert lints.tensor_cores(kernel, "HGMMA")


def test_a_tile_that_is_too_large_spills(need):
  need("h200")
  (kernel,) = sass.report(aot.compile_for("h200", *_weighed(256, 64, 4)))
  assert kernel.registers == 255
  assert kernel.count("LDL", "STL") > 0
  (finding,) = lints.spills(kernel)
  assert "255 registers" in finding


def test_shared_memory_has_its_size(need):
  need("h200")
  with pytest.raises(Exception, match="[Ss]hared memory"):
    aot.compile_for("h200", *_weighed(1024, 128, 8))


def _double(in_ref, out_ref):
  out_ref[...] = in_ref[...] * 2.0


def test_vmem_has_its_size(need):
  need("v5e")
  shape = jax.ShapeDtypeStruct((4096, 4096), jnp.float32)
  with pytest.raises(Exception, match="vmem|VMEM"):
    aot.compile_for("v5e", pl.pallas_call(_double, out_shape=shape), [shape])


@pytest.mark.parametrize("target", ["v5e", "v5p", "v6e"])
def test_bundles_are_counted(target, need):
  need(target)
  small, large = (
    jax.ShapeDtypeStruct((rows, 128), jnp.float32) for rows in (64, 256)
  )
  kernels = []
  for shape in (small, large):
    run = pl.pallas_call(_double, out_shape=shape, name="double")
    (kernel,) = bundles.report(aot.compile_for(target, run, [shape]))
    kernels.append(kernel)
  first, second = kernels
  assert first.name == second.name == "double"
  # A register holds 8 rows of 128: one load, one product, one store each.
  assert second.used["VSTORE"] - first.used["VSTORE"] == (256 - 64) // 8
  assert second.bundles > first.bundles
  assert first.spills == 0 and first.used["MXU"] == 0


@pytest.mark.parametrize("target", ["v5e", "h200"])
def test_collectives_are_found_where_they_belong(target, need):
  need(target)
  shape = jax.ShapeDtypeStruct((8, 128), jnp.float32)
  spec = PartitionSpec("x")

  def attention(x):
    return jax.lax.psum(x, "x")

  def run(x):
    with jax.named_scope("attention"):
      mesh = aot.mesh(target, {"x": 4})
      return _compat.shard_map(
        attention, mesh=mesh, in_specs=spec, out_specs=PartitionSpec()
      )(x)

  program = aot.compile_for(target, run, [shape], axes={"x": 4}, specs=[spec])
  (found,) = hlo.collectives(program.hlo)
  assert found.kind == "all-reduce"
  assert len(lints.collectives(program.hlo, ["attention"])) == 1
  assert lints.collectives(program.hlo, ["convolution"]) == []
