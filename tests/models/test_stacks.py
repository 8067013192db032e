"""Stacks compute the same: scanned or unrolled, with or without remat."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.stacks import arrangement, stacks
from jaxlm.layers.stacks.scan import split
from jaxlm.models import assembly
from jaxlm.optimizers import _parts
from tests import tiny

ORDER = ("first", "local", "wide", "local", "wide")


def spec_of(**stack):
  """ModernBERT's pattern: one layer, then a repeated pair."""
  layer = lambda window, **block: tiny.layer(
    block=dict(kind="pre_norm", **block),
    mixer=dict(window=window, use_bias=False),
  )
  return tiny.model_spec(
    norm=dict(kind="rms_norm"),
    positions=dict(kind="relative_buckets"),
    layers=dict(
      first=layer(0, skip_mixer_norm=True), local=layer(4), wide=layer(0)
    ),
    order=ORDER,
    stack=stack,
  )


@functools.cache
def unrolled_params():
  return tiny.build(spec_of(kind="sequential"))[1]


@functools.cache
def result(kind, remat):
  """Hidden states and gradients of the unrolled parameters."""
  model = assembly.build(spec_of(kind=kind, remat=remat))
  params = unrolled_params()["params"]

  def loss(params):
    if kind == "scan":
      params = arrangement.scanned(params, ORDER)
    hidden = model.apply({"params": params}, tiny.batch())["hidden"]
    weights = jnp.sin(jnp.arange(hidden.size)).reshape(hidden.shape)
    return jnp.sum(hidden * weights * (tiny.SEGMENTS > 0)[..., None]), hidden

  gradient, hidden = jax.jit(jax.grad(loss, has_aux=True))(params)
  return tiny.host(hidden), paths.flatten(tiny.host(gradient))


@pytest.mark.parametrize(
  "design", [("scan", False), ("scan", True), ("sequential", True)], ids=str
)
def test_all_stacks_agree_forward_and_backward(design):
  hidden, gradient = result(*design)
  plain, expected = result("sequential", False)
  np.testing.assert_allclose(
    tiny.real(hidden), tiny.real(plain), atol=1e-4, rtol=1e-4
  )
  for path, leaf in expected.items():
    scale = max(1.0, np.abs(leaf).max())
    np.testing.assert_allclose(
      gradient[path], leaf, atol=1e-4 * scale, err_msg=path
    )
    # A learned bias that all layers share trains through the loop too.
    assert np.abs(leaf).max() > 1e-3 or path.endswith("key/bias"), path


def test_scanned_parameters_gain_an_axis_of_turns():
  boxed = tiny.shapes(assembly.build(spec_of(kind="scan")), tiny.batch())
  names = tiny.names(boxed)
  place = "params/stack/{}/feedforward/input/kernel"
  looped = place.format("loop/layers_0")
  assert names[place.format("layers_0")] == ("embed", "mlp")
  assert names[looped] == ("layers", "embed", "mlp")
  assert place.format("layers_1") not in names
  shapes = paths.flatten(tiny.fill(boxed))
  assert shapes[looped].shape == (2, tiny.WIDTH, 48)


def test_optimizers_know_scanned_parameters_by_their_paths():
  names = tiny.names(
    tiny.shapes(assembly.build(spec_of(kind="scan")), tiny.batch())
  )
  stacked = {path for path, axes in names.items() if "layers" in axes}
  assert stacked == {p for p in names if re.search(_parts.STACKED, p)} != set()


def test_conversion_there_and_back_is_the_identity():
  params = unrolled_params()["params"]
  back = arrangement.unrolled(arrangement.scanned(params, ORDER), ORDER)
  assert jax.tree.structure(back) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize(
  ("order", "expected"),
  [
    (("a",) * 12, (0, 1, 12)),
    (("a", "b") * 3, (0, 2, 3)),
    (("f",) + ("l", "l", "w") * 7, (1, 3, 7)),
    (("a", "b", "c"), (0, 1, 1)),
    (("a", "b", "b", "b", "a"), (1, 1, 3)),
    (("a",), (0, 1, 1)),
  ],
)
def test_the_longest_repetition_is_scanned(order, expected):
  assert split(order) == expected


@pytest.mark.parametrize("kind", ["sequential", "scan"])
def test_hidden_states_of_every_layer_can_be_captured(kind):
  model = assembly.build(spec_of(kind=kind))
  boxed = jax.eval_shape(
    lambda: model.apply(
      tiny.fill(tiny.shapes(model, tiny.batch())),
      tiny.batch(),
      capture=frozenset({"hidden"}),
      mutable=["intermediates"],
    )[1]
  )
  kept = jax.tree.leaves(boxed["intermediates"])
  states = sum(leaf.shape[0] if len(leaf.shape) == 4 else 1 for leaf in kept)
  assert states == len(ORDER)
  assert {leaf.shape[-3:] for leaf in kept} == {
    (tiny.BATCH, tiny.LENGTH, tiny.WIDTH)
  }


class _Drop(nn.Module):
  """A layer that does nothing but drop half."""

  @nn.compact
  def __call__(self, x, ctx):
    return nn.Dropout(0.5, deterministic=not ctx.train)(x)


ALL_STACKS = pytest.mark.parametrize(
  ("kind", "remat"), [(k, r) for k in stacks.kinds() for r in (False, True)]
)


def stack_of(kind, remat, make):
  layers = tuple(make() for _ in range(3))
  spec = {"kind": kind, "remat": remat}
  return stacks.build(spec, layers=layers, order=("a",) * 3)


@ALL_STACKS
def test_every_layer_draws_dropout_of_its_own(kind, remat):
  """Three independent draws keep an eighth; one shared draw keeps half."""
  stack = stack_of(kind, remat, _Drop)
  x = jnp.ones((2, 16, 256))
  rngs = {"dropout": jax.random.key(0)}
  out = stack.apply({}, x, tiny.context(train=True), rngs=rngs)
  np.testing.assert_allclose(np.unique(out), [0.0, 8.0])
  assert abs(float((out > 0).mean()) - 1 / 8) < 0.02


@ALL_STACKS
def test_gradients_see_the_dropout_of_the_forward_pass(kind, remat):
  """Recomputation that drew anew would not be the derivative of anything."""
  with jax.enable_x64(True):
    wide = dict(dtype=jnp.float64, param_dtype=jnp.float64)
    spec = {"kind": "gated", "hidden": 48, "dropout": 0.5}
    make = lambda: feedforwards.build(spec, width=tiny.WIDTH, **wide)
    stack, ctx = stack_of(kind, remat, make), tiny.context(train=True)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 16, tiny.WIDTH)))
    shapes = tiny.shapes(stack, x, tiny.context())
    params, direction = tiny.fill(shapes, scale=0.2), tiny.fill(shapes, seed=1)

    @jax.jit
    def loss(step):
      moved = jax.tree.map(lambda p, d: p + step * d, params, direction)
      rngs = {"dropout": jax.random.key(0)}
      return jnp.mean(jnp.tanh(stack.apply(moved, x, ctx, rngs=rngs)))

    size = 1e-6
    slope = (loss(size) - loss(-size)) / (2 * size)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(jax.grad(loss)(0.0), slope, rtol=1e-4)
