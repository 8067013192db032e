"""Meshes, rules and batches over eight fake devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxlm import sharding
from jaxlm.errors import UserError
from jaxlm.training import state as states
from tests.training import toy


def test_the_free_axis_takes_what_is_left():
  mesh = sharding.make_mesh(data=-1, fsdp=2, tensor=2)
  assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
  assert [d.id for d in mesh.devices.flat] == list(range(8))


def test_a_mesh_that_does_not_divide_the_devices_says_what_would():
  with pytest.raises(UserError, match="multiple of 3.*are 8.*1, 2, 4, 8"):
    sharding.make_mesh(fsdp=3)
  with pytest.raises(UserError, match="needs 4 devices, but there are 8"):
    sharding.make_mesh(data=2, fsdp=2)
  with pytest.raises(UserError, match="at most one is -1"):
    sharding.make_mesh(data=-1, fsdp=-1)


def test_a_batch_that_does_not_divide_names_the_nearest():
  mesh = sharding.make_mesh(fsdp=2)
  with pytest.raises(UserError, match="multiple of 16. Nearest: 16 or 32"):
    sharding.check_batch(24, mesh, microbatches=2)
  with pytest.raises(UserError, match="Nearest: 8"):
    sharding.check_batch(3, mesh)
  sharding.check_batch(32, mesh, microbatches=4)
  with pytest.raises(UserError, match="Nearest: 8 or 16"):
    sharding.shard_batch({"inputs": np.zeros((12, 2))}, mesh)


def test_a_batch_is_spread_over_data_and_fsdp():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  value = np.arange(24).reshape(8, 3)
  placed = sharding.shard_batch({"x": value}, mesh)["x"]
  np.testing.assert_array_equal(placed, value)
  assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}
  assert sharding.process_shard(mesh, 8) == (0, 1)


def test_specs_follow_the_rules():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  spec = lambda names, shape: sharding.spec_of(
    names, shape, mesh, sharding.RULES, "a/b"
  )
  assert spec(("embed", "mlp"), (4, 8)) == P("fsdp", "tensor")
  assert spec(("embed", "embed"), (4, 4)) == P("fsdp", None)
  assert spec(("vocab", "embed"), (5, 4)) == P(None, "fsdp")  # 5 is odd
  assert spec(("layers", None, "heads"), (3, 2, 2)) == P(None, None, "tensor")
  assert spec(("batch", "length"), (8, 4)) == P(("data", "fsdp"), None)
  with pytest.raises(UserError, match="a/b.*'embd'.*Did you mean 'embed'"):
    spec(("embd",), (4,))


def test_rules_can_be_overridden_and_are_checked():
  assert sharding.with_overrides({"mlp": None})["mlp"] is None
  with pytest.raises(UserError, match="'mlp'.*'tensr'.*'tensor'"):
    sharding.with_overrides({"mlp": "tensr"})


def test_optimizer_state_follows_its_parameter():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  shapes = states.abstract(
    toy.ToyModel(), optax.adam(1e-3), toy.task().batch_spec, mesh
  )
  adam = shapes.opt_state[0]
  kernel = lambda tree: tree["wide"]["kernel"].sharding.spec
  assert kernel(shapes.params) == P("fsdp", "tensor")
  assert kernel(adam.mu) == kernel(adam.nu) == P("fsdp", "tensor")
  assert adam.count.sharding.spec == P()
  assert shapes.key.sharding.spec == P()


def test_factored_state_is_replicated():
  mesh = sharding.make_mesh(data=1, fsdp=4, tensor=2)
  tx = optax.adafactor(1e-3, min_dim_size_to_factor=8)
  shapes = states.abstract(toy.ToyModel(), tx, toy.task().batch_spec, mesh)
  specs = {
    leaf.sharding.spec
    for leaf in jax.tree.leaves(shapes.opt_state)
    if leaf.ndim == 1 and leaf.shape != (16,)
  }
  assert specs == {P()}


def test_an_unknown_logical_name_raises_with_its_path():
  class Odd(nn.Module):
    @nn.compact
    def __call__(self, batch, *, train):
      init = nn.with_logical_partitioning(nn.initializers.ones, ("wdth",))
      return self.param("odd", init, (3,)) * jnp.ones((1,))

  with pytest.raises(UserError, match="params/odd.*'wdth'"):
    states.abstract(
      Odd(), optax.sgd(1.0), toy.task().batch_spec, sharding.make_mesh()
    )


def test_gathering_takes_fsdp_out_alone():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  place = lambda *axes: jax.sharding.NamedSharding(mesh, P(*axes))
  tree = {"a": place("fsdp", "tensor"), "b": place(("fsdp", "tensor"), None)}
  assert sharding.gathered(tree) == {
    "a": place(None, "tensor"),
    "b": place("tensor", None),
  }
