"""What every layer part promises, whatever its kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.layers import primitives
from tests import tiny
from tests.contracts import cases

every_case = pytest.mark.parametrize("case", cases.CASES, ids=str)
FLOAT32_OUT = ("head",)  # logits keep float32


@functools.cache
def inputs():
  rng = np.random.default_rng(1)
  shape = (tiny.BATCH, tiny.LENGTH, tiny.WIDTH)
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


@functools.cache
def boxed(case, **fields):
  return tiny.shapes(case.module(**fields), inputs(), tiny.context())


def variables(case):
  return tiny.fill(boxed(case))


@functools.cache
def plain(case):
  """The output of a case on the common input."""
  return case.module().apply(variables(case), inputs(), tiny.context())


@every_case
def test_shape_and_dtype(case):
  out = plain(case)
  assert out.shape[:2] == inputs().shape[:2]
  if case.family.family != "head":
    assert out.shape == inputs().shape
  assert out.dtype == jnp.float32
  assert np.isfinite(np.asarray(out)).all()


@every_case
def test_padding_and_other_documents_do_not_leak(case):
  """A part that says what `leaks` need only be safe from padding."""
  x = np.array(inputs())
  pads = tiny.SEGMENTS == 0
  leaks = getattr(case.part(), "leaks", "")
  second = (tiny.SEGMENTS == 2) & (not leaks)
  x[pads | second] += 3.0 * x[::-1, ::-1][pads | second]
  moved = case.module().apply(variables(case), x, tiny.context())
  still = ~pads & ~second
  np.testing.assert_allclose(
    np.asarray(moved)[still], np.asarray(plain(case))[still], atol=1e-5
  )
  assert leaks or not np.allclose(
    np.asarray(moved)[second], np.asarray(plain(case))[second], atol=1e-2
  )


@pytest.mark.parametrize(
  "case", [c for c in cases.CASES if ("causal", True) in c.fields], ids=str
)
def test_causal_mixers_look_back_only(case):
  segments = np.ones((tiny.BATCH, tiny.LENGTH), np.int32)
  ctx, x = tiny.context(segments), np.array(inputs())
  before = case.module().apply(variables(case), x, ctx)
  x[:, 9] += 4.0
  after = case.module().apply(variables(case), x, ctx)
  change = np.abs(np.asarray(after - before)).max((0, 2))
  # A Fourier transform rounds over the whole row; a part says so.
  assert change[:9].max() <= getattr(case.part(), "rounds_ahead", 0.0)
  assert change[9:].min() > 1e-3


@every_case
def test_dropout_works_in_training_alone(case):
  fields = {f: 0.5 for f in cases.DROPOUTS if case.has(f)}
  module = case.module(**fields)
  run = lambda train, seed: module.apply(
    variables(case),
    inputs(),
    tiny.context(train=train),
    rngs={"dropout": jax.random.key(seed)},
  )
  np.testing.assert_array_equal(
    module.apply(variables(case), inputs(), tiny.context()), plain(case)
  )
  first = np.asarray(run(True, 1))
  np.testing.assert_array_equal(first, run(True, 1))
  if fields:
    assert not np.allclose(first, run(True, 2), atol=1e-3)
    assert not np.allclose(first, plain(case), atol=1e-3)
  else:
    np.testing.assert_allclose(first, plain(case), atol=1e-6)


@every_case
def test_every_axis_of_every_parameter_is_named(case):
  shapes = paths.flatten(tiny.fill(boxed(case)))
  for path, axes in tiny.names(boxed(case)).items():
    assert axes is not None, f"{path} carries no names"
    assert len(axes) == shapes[path].ndim, (path, axes)
    assert set(axes) <= {*primitives.AXES, None}, (path, axes)


@functools.cache
def compiled(case):
  """(output, gradients by parameter and by input) of one compiled program."""
  rng = np.random.default_rng(2)
  weights = jnp.asarray(rng.standard_normal(plain(case).shape), jnp.float32)
  # Outputs at padding are nobody's; what they hold must not make NaN.
  some = (1,) * (weights.ndim - 2)
  weights = weights * (tiny.SEGMENTS > 0).reshape(*weights.shape[:2], *some)

  def loss(variables, x):
    out = case.module().apply(variables, x, tiny.context())
    return jnp.sum(out * weights), out

  run = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
  gradients, out = run(variables(case), inputs())
  return out, *tiny.host(gradients)


@every_case
def test_compiled_equals_eager(case):
  np.testing.assert_allclose(compiled(case)[0], plain(case), atol=2e-5)


@every_case
def test_gradients_reach_every_parameter_and_are_finite(case):
  _, params, x = compiled(case)
  for path, gradient in paths.flatten(params).items():
    assert np.isfinite(gradient).all(), path
    if path.endswith("key/bias"):
      continue  # it adds the same to all scores of a query: softmax ignores it
    assert np.abs(gradient).max() > 1e-6, f"{path} is not reached"
  assert np.isfinite(x).all()
  if case.family.family != "embedding":
    assert np.abs(x[tiny.SEGMENTS == 0]).max() == 0.0


@every_case
def test_bfloat16_computes_with_float32_parameters(case):
  module = case.module(dtype=jnp.bfloat16)
  x = inputs().astype(jnp.bfloat16)
  shapes = tiny.shapes(module, x, tiny.context())
  kept = {leaf.dtype for leaf in jax.tree.leaves(shapes)}
  assert kept <= {jnp.dtype("float32")}
  out = jax.jit(module.apply)(variables(case), x, tiny.context())
  wide = case.family.family in FLOAT32_OUT
  assert out.dtype == (jnp.float32 if wide else jnp.bfloat16)
  scale = np.abs(np.asarray(plain(case))).max()
  np.testing.assert_allclose(
    tiny.real(out), tiny.real(plain(case)), atol=0.05 * scale
  )
