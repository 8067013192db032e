"""Groups of parameters by path, and rates by depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.errors import UserError
from jaxlm.optimizers import layer_decay, optimizers
from tests.optimizers.common import build, draw, same, walk


def test_groups_are_their_optimizers():
  params = {"low": {"kernel": draw(3, 2)}, "top": {"kernel": draw(3, 2)}}
  grad = lambda p: jax.tree.map(lambda x: 2.0 * x, p)
  tx = build(
    kind="groups",
    groups=dict(
      still=dict(paths="^low/", optimizer=dict(kind="frozen")),
      rest=dict(paths="", rate=0.5, optimizer=dict(kind="adamw")),
    ),
  )
  found = walk(tx, params, grad)
  same(found["low"], params["low"])
  alone = optimizers.build(dict(kind="adamw"), learning_rate=0.05)
  same(found["top"], walk(alone, {"kernel": params["top"]["kernel"]}, grad))


def test_the_order_of_groups_is_of_no_account():
  """A config sorts its keys: 'rest' stands before 'words' there."""
  params = {"table": draw(3, 2), "top": {"kernel": draw(3, 2)}}
  grad = lambda p: jax.tree.map(lambda x: 2.0 * x, p)
  words = dict(paths="table", optimizer=dict(kind="frozen"))
  rest = dict(paths="", optimizer=dict(kind="adamw"))
  first = walk(
    build(kind="groups", groups=dict(words=words, rest=rest)), params, grad
  )
  last = walk(
    build(kind="groups", groups=dict(rest=rest, words=words)), params, grad
  )
  same(first, last)
  same(first["table"], params["table"])
  assert jnp.abs(first["top"]["kernel"] - params["top"]["kernel"]).max() > 0.1


def test_a_group_sees_the_gradient_by_its_own_parameters():
  params = {"a": jnp.float32([1.0, 2.0]), "b": jnp.float32([3.0, 4.0])}
  grad = jax.grad(lambda p: jnp.sum(p["a"] ** 2 * p["b"]))
  groups = dict(
    a=dict(
      paths="^a$",
      optimizer=dict(kind="adahessian", average="none", hessian_power=1.0),
    ),
    b=dict(paths="^b$", optimizer=dict(kind="frozen")),
  )
  found = walk(build(kind="groups", groups=groups), params, grad, 1)
  # d/da = 2 a b, curvature 2 b: a Newton step of rate 0.1.
  np.testing.assert_allclose(found["a"], 0.9 * params["a"], rtol=1e-3)
  same(found["b"], params["b"])


def test_every_parameter_needs_a_group_and_every_group_one():
  params = {"low": draw(2), "top": draw(2)}
  some = dict(low=dict(paths="low", optimizer=dict(kind="frozen")))
  with pytest.raises(UserError, match="No rule covers these parameters: top"):
    build(kind="groups", groups=some).init(params)
  rest = dict(paths="", optimizer=dict(kind="adamw"))
  none = dict(rest=rest, high=dict(some["low"], paths="high"))
  with pytest.raises(UserError, match="groups.high: no parameter is left"):
    build(kind="groups", groups=none).init(params)
  with pytest.raises(UserError, match="nearest.*'paths'|'paths'"):
    build(kind="groups", groups=dict(a=dict(path="", optimizer={})))


def model(depth, looped=False):
  leaf = draw(2, 2)
  layer = {"mixer": {"kernel": leaf}}
  if looped:  # one layer, then (depth - 1) / 2 turns of a pair
    pair = jax.tree.map(lambda x: jnp.stack([x] * ((depth - 1) // 2)), layer)
    stack = {"layers_0": layer, "loop": {"layers_0": pair, "layers_1": pair}}
  else:
    stack = {f"layers_{i}": layer for i in range(depth)}
  return {
    "embeddings": {"table": leaf},
    "positions": {"table": leaf},
    "stack": stack,
    "final_norm": {"norm": {"scale": draw(2)}},
    "heads_classify": {"output": {"kernel": leaf}},
  }


def test_the_multipliers_of_electra():
  """The sheet's table: 12 layers, 0.8: head 1, top .8^2, embeddings .8^14."""
  powers = paths.flatten(layer_decay.distances(model(12)))
  assert powers["heads_classify/output/kernel"] == 0
  assert powers["final_norm/norm/scale"] == 0
  assert powers["stack/layers_11/mixer/kernel"] == 2
  assert powers["stack/layers_0/mixer/kernel"] == 13
  assert powers["embeddings/table"] == powers["positions/table"] == 14
  plain = paths.flatten(layer_decay.distances(model(12), top_power=1))
  assert plain["stack/layers_11/mixer/kernel"] == 1
  assert plain["embeddings/table"] == 13


def test_scanned_layers_take_their_own_multipliers():
  params = model(5, looped=True)
  powers = paths.flatten(layer_decay.distances(params))
  assert powers["stack/layers_0/mixer/kernel"] == 6
  assert list(powers["stack/loop/layers_0/mixer/kernel"]) == [5, 3]
  assert list(powers["stack/loop/layers_1/mixer/kernel"]) == [4, 2]
  assert powers["embeddings/table"] == 7
  ones = jax.tree.map(jnp.ones_like, params)
  tx = build(kind="layer_decay", factor=0.5, base=dict(kind="adamw"))
  step, _ = tx.update(ones, tx.init(params), params)
  base, _ = build(kind="adamw").update(
    ones, build(kind="adamw").init(params), params
  )
  looped = lambda tree: tree["stack"]["loop"]["layers_0"]["mixer"]["kernel"]
  np.testing.assert_allclose(looped(step)[1], looped(base)[1] / 8, rtol=1e-6)
