"""ALBERT's stack: layers that use the same parameters again."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors, paths, recipe
from jaxlm.layers.stacks.shared import Shared, firsts, loops
from jaxlm.models import assembly
from jaxlm.types import Task
from tests import tiny
from tests.test_recipes import shapes


def spec(order, kind="shared", **stack):
  layer = tiny.layer(block=dict(kind="post_norm"))
  return tiny.model_spec(
    layers={name: layer for name in dict.fromkeys(order)},
    order=tuple(order),
    stack=dict(kind=kind, **stack),
  )


@functools.cache
def kept(order):
  """The parameters that a shared stack keeps."""
  return tiny.build(spec(order))[1]["params"]


def copies(params, order):
  """The same for a stack whose layers each have their own."""
  stack = {
    f"layers_{i}": params["stack"][f"layers_{first}"]
    for i, first in enumerate(firsts(order))
  }
  return {**params, "stack": stack}


@functools.cache
def result(order, kind, remat=False):
  model = assembly.build(spec(order, kind, remat=remat))

  def loss(params):
    hidden = model.apply({"params": params}, tiny.batch())["hidden"]
    weights = jnp.sin(jnp.arange(hidden.size)).reshape(hidden.shape)
    return jnp.sum(hidden * weights * (tiny.SEGMENTS > 0)[..., None]), hidden

  params = kept(order)
  params = params if kind == "shared" else copies(params, order)
  gradient, hidden = jax.jit(jax.grad(loss, has_aux=True))(params)
  return tiny.host(hidden), tiny.host(gradient)


def test_what_is_kept():
  assert set(kept("aabb")["stack"]) == {"layers_0", "layers_2"}
  assert firsts("abab") == (0, 1, 0, 1)
  assert loops(tuple("aabb")) == [(("a",), 2), (("b",), 2)]
  assert loops(tuple("abab")) == [(("a", "b"), 2)]
  assert loops(()) == []


@pytest.mark.parametrize(
  "order, remat",
  # One loop; groups; a pair that repeats; what no loop can hold.
  [
    pytest.param("aaa", True, marks=pytest.mark.slow),
    pytest.param("aabb", False, marks=pytest.mark.slow),
    ("abab", True),
    pytest.param("aaba", True, marks=pytest.mark.slow),
  ],
)
def test_gradients_are_the_sums_of_unshared_ones(order, remat):
  """And the forward is that of copies."""
  hidden, gradient = result(order, "shared", remat)
  plain, apart = result(order, "sequential")
  np.testing.assert_allclose(tiny.real(hidden), tiny.real(plain), atol=1e-4)
  summed = {}
  for i, first in enumerate(firsts(order)):
    own = paths.flatten(apart["stack"][f"layers_{i}"])
    for path, leaf in own.items():
      key = f"layers_{first}/{path}"
      summed[key] = summed.get(key, 0.0) + leaf
  found = paths.flatten(gradient["stack"])
  assert found.keys() == summed.keys()
  for path, leaf in found.items():
    scale = max(1.0, np.abs(summed[path]).max())
    np.testing.assert_allclose(leaf, summed[path], atol=1e-4 * scale)


@pytest.mark.parametrize("order", ["abab", "aaba"])
def test_hidden_states_of_every_layer_are_kept(order):
  model = assembly.build(spec(order))
  outputs, state = model.apply(
    {"params": kept(order)},
    tiny.batch(),
    capture=frozenset({"hidden"}),
    mutable="intermediates",
  )
  states = state["intermediates"]["stack"]["hidden"]
  assert len(states) == len(order)
  np.testing.assert_array_equal(states[-1], outputs["hidden"])


def test_dropout_differs_from_turn_to_turn():
  """A layer that only drops keeps (1 - rate)**turns of its input."""

  class Drop(nn.Module):
    @nn.compact
    def __call__(self, x, ctx):
      return nn.Dropout(0.5, deterministic=False)(x)

  stack = Shared((Drop(), Drop(), Drop()), ("a", "a", "a"))
  x = jnp.ones((4, 64, 32))
  y = stack.apply({}, x, tiny.context(), rngs={"dropout": jax.random.key(0)})
  assert abs(np.mean(np.asarray(y) > 0) - 1 / 8) < 0.02


class Narrower(nn.Module):
  """A layer that halves the width."""

  @nn.compact
  def __call__(self, x, ctx):
    return x[..., ::2]


def test_widths_that_change_are_refused():
  stack = Shared((Narrower(), Narrower()), ("a", "a"))
  with pytest.raises(errors.UserError, match="'a' turns width 32 into 16"):
    stack.apply({}, jnp.ones((1, 2, 32)), tiny.context())


def test_decoding_is_refused_where_keys_cannot_be_kept():
  model = assembly.build(spec("aaba"))
  with pytest.raises(errors.UserError, match="'a' of the shared stack runs in"):
    model.apply(
      {"params": kept("aaba")}, tiny.batch(), cache_length=16, mutable="cache"
    )


def test_flops_count_every_turn():
  """A shared stack costs what its copies would."""
  task = Task(
    "a", {"inputs": jax.ShapeDtypeStruct((4, 16), jnp.int32)}, None, 4
  )
  found = recipe.flops_per_step(spec("aab"), kept("aab"), task)
  apart = copies(kept("aab"), "aab")
  assert found == recipe.flops_per_step(spec("aab", "sequential"), apart, task)


@pytest.mark.parametrize(
  "variant, parameters",
  [
    ("base", 11_683_584),
    ("large", 17_683_968),
    ("xlarge", 58_724_864),
    ("xxlarge", 222_595_584),
  ],
)
def test_albert_has_the_published_parameters(variant, parameters):
  found = shapes("albert", variant)
  width = found["stack"]["layers_0"]["mixer"]["query"]["kernel"].shape[0]
  body = {k: v for k, v in found.items() if not k.startswith("heads_")}
  pooler = width * width + width  # which transformers counts
  assert paths.count(body) + pooler == parameters
