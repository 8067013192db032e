"""Fresh states: the same on any mesh, made in place, started from weights."""

import jax
import numpy as np
import optax
import pytest

from jaxlm import sharding
from jaxlm.errors import UserError
from jaxlm.training import state as states
from tests.training import toy

MESHES = [dict(data=8), dict(data=2, fsdp=2, tensor=2)]


def create(mesh, **given):
  return states.create(
    toy.ToyModel(),
    optax.adam(1e-3),
    toy.task().batch_spec,
    seed=3,
    mesh=mesh,
    **given,
  )


def test_a_state_is_the_same_on_every_mesh():
  alone = create(sharding.make_mesh(devices=jax.devices()[:1]))
  for sizes in MESHES:
    other = create(sharding.make_mesh(**sizes))
    jax.tree.map(np.testing.assert_array_equal, alone, other)


def test_it_is_made_sharded():
  state = create(sharding.make_mesh(data=1, fsdp=4, tensor=2))
  table = state.params["wide"]["kernel"]  # [8, 16]
  assert {s.data.shape for s in table.addressable_shards} == {(2, 8)}
  assert state.step.dtype == np.int32 and state.step.shape == ()


def test_given_parameters_take_their_places():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  fresh = create(mesh)
  given = {"wide": {"bias": np.arange(16.0)}}
  state = create(mesh, params=given)
  np.testing.assert_array_equal(state.params["wide"]["bias"], np.arange(16.0))
  np.testing.assert_array_equal(state.params["table"], fresh.params["table"])
  place = lambda s: s.params["wide"]["bias"].sharding
  assert place(state) == place(fresh)


def test_given_parameters_of_another_model_are_refused():
  mesh = sharding.make_mesh()
  given = {"tabel": np.zeros(3), "wide": {"bias": np.zeros(4)}}
  with pytest.raises(UserError) as caught:
    create(mesh, params=given)
  assert "tabel: not in the model Did you mean 'table'?" in str(caught.value)
  assert "wide/bias: (4,), the model (16,)" in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**31, 2**40 + 1])
def test_any_whole_number_is_a_seed(seed):
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  make = lambda seed: states.create(
    toy.ToyModel(), optax.sgd(1.0), toy.task().batch_spec, seed=seed, mesh=mesh
  )
  state = make(seed)
  jax.tree.map(np.testing.assert_array_equal, state, make(seed % 2**32))
  assert (state.params["table"] != make(0).params["table"]).any()
