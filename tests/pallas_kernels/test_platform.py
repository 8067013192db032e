"""What is compiled for, found out while a function is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import (
  AbstractDevice,
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
)
from jax.sharding import PartitionSpec as P

from pallas_kernels import _platform

CPU = _platform.Device("cpu", "cpu")
H200 = _platform.Device("gpu", "NVIDIA H200")


def far_mesh(platform="gpu", kind="NVIDIA H200", shape=(4,), names=("data",)):
  """A mesh of devices that are not there."""
  device = AbstractDevice(device_kind=kind, num_cores=8, platform=platform)
  types = (AxisType.Auto,) * len(shape)
  return AbstractMesh(shape, names, types, abstract_device=device)


def test_the_default_backend():
  assert _platform.target() == CPU
  assert _platform.target((jnp.ones(2), np.ones(2), None)) == CPU
  assert _platform.target(jax.ShapeDtypeStruct((2,), jnp.float32)) == CPU
  found = []
  jax.jit(lambda x: found.append(_platform.target(x)))(1.0)
  assert found == [CPU]


def test_the_default_device():
  with jax.default_device(jax.devices()[3]):
    assert _platform.target() == CPU
  with jax.default_device("cpu"):
    assert _platform.target() == CPU


def test_a_mesh_that_is_given_or_ambient():
  assert _platform.target(mesh=far_mesh()) == H200
  with jax.sharding.use_abstract_mesh(far_mesh()):
    assert _platform.target() == H200
    assert _platform.target(mesh=far_mesh("tpu", "TPU v6 lite")).kind == (
      "TPU v6 lite"
    )
  assert _platform.target() == CPU


def test_the_mesh_that_arrays_live_on_is_seen_inside_of_jit():
  """As jaxlm's train step is compiled: shapes with shardings, no context."""
  found = []

  def step(params, batch):
    def loss(params):
      def layer(x, _):
        found.append(_platform.mesh_of((x,)))
        return jnp.sin(x * params[None]), None

      return jnp.sum(
        jax.lax.scan(jax.checkpoint(layer), batch, None, length=2)[0]
      )

    return jax.grad(loss)(params)

  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "tensor"))
  shape = lambda shape, spec: jax.ShapeDtypeStruct(
    shape, jnp.float32, sharding=NamedSharding(mesh, spec)
  )
  jax.jit(step).lower(shape((4,), P()), shape((8, 4), P("data")))
  assert found and all(m.shape == mesh.shape for m in found)
  assert _platform.target(mesh=found[0]) == CPU


def test_a_mesh_without_devices_knows_nothing():
  mesh = AbstractMesh((2,), ("data",), (AxisType.Auto,))
  assert _platform.target(mesh=mesh) == CPU


@pytest.mark.parametrize("name", ["cuda", "rocm", "gpu"])
def test_platforms_have_one_name(name):
  assert _platform.device(name).platform == "gpu"
  assert str(_platform.device(name)) == "gpu"
  assert str(_platform.device(name, "NVIDIA H200")) == "gpu (NVIDIA H200)"
