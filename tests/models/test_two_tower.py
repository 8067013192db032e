"""Two towers: what they share, whose gradients go where, what is kept."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import electra
from jaxlm import paths
from jaxlm.errors import UserError
from jaxlm.models import assembly, two_tower
from jaxlm.objectives import objectives
from tests import tiny

KEY = jax.random.key(3)
SHARED = {
  "separate": set(),
  "shared": {
    "embeddings/table",
    "embeddings/type_table",
    "positions/table",
    "input_norm/norm/bias",
    "input_norm/norm/scale",
  },
  "gradient_disentangled": {"embeddings/table", "positions/table"},
}
every_sharing = pytest.mark.parametrize("sharing", SHARED)


def spec(sharing="shared", **changes):
  """The tiny config, smaller."""
  made = electra.get_config("tiny").model.to_dict() | dict(sharing=sharing)
  smaller = dict(depth=1, stack=dict(kind="sequential"))
  smaller |= dict(positions=dict(kind="learned", max_length=16))
  towers = {name: tower | smaller for name, tower in made["towers"].items()}
  return made | dict(towers=towers, vocab_size=tiny.VOCAB) | changes


@functools.cache
def built(sharing):
  return tiny.build(spec(sharing))


def batch():
  made = tiny.batch()
  rows = np.arange(2)[:, None]
  made["predict_ids"] = made["inputs"][rows, made["predict_positions"]]
  made["predict_weights"] = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
  masked = made["inputs"].copy()
  masked[rows, made["predict_positions"]] = 3
  return made | dict(inputs=masked)


def gradient(name, sharing):
  """Gradient of one term of the loss by all parameters, by path."""
  model, variables = built(sharing)
  detect = objectives.build({"kind": "replaced_token_detection"})

  def loss(params):
    variables = {"params": params}
    return detect(model, variables, batch(), KEY, train=False).sums[name]

  return paths.flatten(jax.jit(jax.grad(loss))(variables["params"]))


def largest(gradient, start=""):
  return max(
    float(jnp.abs(leaf).max())
    for path, leaf in gradient.items()
    if path.startswith(start)
  )


@every_sharing
def test_the_generator_owns_what_is_shared(sharing):
  params = built(sharing)[1]["params"]
  own = paths.flatten(params["discriminator"])
  whole = paths.flatten(two_tower.composed(params, sharing))
  theirs = paths.flatten(params["generator"])
  if sharing == "shared":
    assert whole.keys() - own.keys() == SHARED[sharing]
  else:
    assert whole.keys() == own.keys()
  for path, leaf in whole.items():
    expected = own.get(path, 0)
    if path in SHARED[sharing]:
      expected = expected + theirs[path]
    np.testing.assert_array_equal(leaf, expected, err_msg=path)


def test_a_fresh_discriminator_starts_from_the_generators_tables():
  sharing = "gradient_disentangled"
  made = jax.jit(assembly.build(spec(sharing)).init)(KEY, tiny.batch())
  params = nn.meta.unbox(made)["params"]
  first = paths.flatten(params["generator"])
  second = paths.flatten(two_tower.composed(params, sharing))
  for path in SHARED[sharing]:
    np.testing.assert_array_equal(first[path], second[path])
    np.testing.assert_array_equal(
      paths.flatten(params["discriminator"])[path], 0.0
    )
  path = "embeddings/type_table"
  assert not np.array_equal(first[path], second[path])


@every_sharing
def test_the_discriminators_loss_and_the_generator(sharing):
  """It reaches the tables where they are shared, and nothing else."""
  for path, leaf in gradient("replaced_token", sharing).items():
    tower, _, name = path.partition("/")
    reached = tower == "discriminator" or (
      sharing == "shared" and name in SHARED[sharing]
    )
    if not reached:
      np.testing.assert_array_equal(leaf, 0.0, err_msg=path)
    elif not path.endswith("key/bias"):
      assert np.abs(leaf).max() > 0, path


def test_the_generators_loss_stays_in_the_generator():
  found = gradient("masked_lm", "gradient_disentangled")
  assert largest(found, "discriminator/") == 0.0
  assert largest(found, "generator/embeddings/table") > 0.0


@every_sharing
def test_the_kept_tower_computes_what_the_towers_do(sharing):
  model, variables = built(sharing)
  kept, params = two_tower.TwoTower.exported(
    spec(sharing), tiny.host(variables["params"])
  )
  alone = jax.jit(assembly.build(kept).apply)({"params": params}, tiny.batch())
  both = jax.jit(model.apply)(variables, tiny.batch())
  assert set(both) == {"hidden", "masked_lm", "replaced_token"}
  for name in ("hidden", "replaced_token"):
    np.testing.assert_array_equal(tiny.real(alone[name]), tiny.real(both[name]))


def test_towers_capture_apart():
  model, variables = built("shared")
  run = functools.partial(
    model.apply, capture=frozenset({"hidden"}), mutable=["intermediates"]
  )
  _, kept = jax.eval_shape(run, variables, tiny.batch())
  widths = {
    name: jax.tree.leaves(tree)[0].shape[-1]
    for name, tree in kept["intermediates"].items()
  }
  assert widths == {"generator": 32, "discriminator": 64}


def test_one_tower_runs_alone():
  model, variables = built("shared")
  run = functools.partial(model.apply, tower="generator")
  made = jax.eval_shape(run, variables, tiny.batch())
  shapes = {name: value.shape for name, value in made.items()}
  assert shapes == {"hidden": (2, 16, 32), "masked_lm": (2, 3, tiny.VOCAB)}


@pytest.mark.parametrize(
  "changes, told",
  [
    (dict(sharing="gdes"), "gradient_disentangled"),
    (dict(towers={}), "needs generator and discriminator"),
    (dict(width=3), "no key 'width'"),
  ],
)
def test_mistakes_are_told(changes, told):
  with pytest.raises(UserError, match=told):
    assembly.build(spec(**changes))


def test_a_tower_without_its_head_is_told():
  wrong = spec()
  wrong["towers"]["generator"]["heads"] = {}
  with pytest.raises(UserError, match="heads lacks 'masked_lm'"):
    assembly.build(wrong)


def test_tables_that_cannot_be_shared_are_told():
  wrong = spec()
  wrong["towers"]["discriminator"]["embeddings"]["table_width"] = 16
  with pytest.raises(UserError, match="table_width"):
    tiny.shapes(assembly.build(wrong), tiny.batch())
  wrong["sharing"] = "separate"
  tiny.shapes(assembly.build(wrong), tiny.batch())


def test_leaks_of_a_tower_are_found():
  model = assembly.build(spec())
  assert assembly.leaks(model) == {}

  class Leaky(nn.Module):
    leaks = "It looks around."

  towers = dict(generator=model.generator, discriminator=Leaky())
  found = assembly.leaks(two_tower.TwoTower(**towers))
  assert found == {"Leaky": "It looks around."}
