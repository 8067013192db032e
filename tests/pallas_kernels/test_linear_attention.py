"""Linear attention against a loop in float64; one class per implementation."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from pallas_kernels.linear_attention import (
  implementations,
  linear_attention,
  mosaic_tpu,
  triton,
)

B, L, H, F, D = 2, 50, 2, 6, 5
# Documents of many lengths, with padding before, between, inside and after.
SEGMENTS = np.array(
  [
    [1] * 10 + [0] * 2 + [1] * 3 + [2] + [3] * 20 + [4] * 8 + [0] * 6,
    [0] * 3 + [7] * 30 + [0] * 2 + [3] * 15,
  ],
  np.int32,
)
ROWS = {"whole": None, "packed": SEGMENTS}


@functools.cache
def arrays(length=L, features=F, head_dim=D, seed=0):
  """Features that spread over a factor of 50, as Hedgehog's do."""
  rng = np.random.default_rng(seed)
  maps = [np.exp(rng.standard_normal((B, length, H, features))) for _ in "qk"]
  return *maps, rng.standard_normal((B, length, H, head_dim))


def slow(query, key, value, causal, segments, epsilon=1e-12):
  """One query at a time, float64, from the definition."""
  out = np.zeros(value.shape)
  for b, i, h in np.ndindex(query.shape[:3]):
    seen = np.ones(len(query[b]), bool)
    if causal:
      seen[i + 1 :] = False
    if segments is not None:
      seen &= (segments[b] == segments[b, i]) & (segments[b, i] > 0)
    weights = key[b, seen, h] @ query[b, i, h]
    out[b, i, h] = weights @ value[b, seen, h] / (weights.sum() + epsilon)
  return out


def slow_gradients(query, key, value, causal, segments, grad):
  """By hand, float64, of sum(out * grad)."""
  gradients = [np.zeros(x.shape) for x in (query, key, value)]
  out = slow(query, key, value, causal, segments)
  for b, i, h in np.ndindex(query.shape[:3]):
    seen = np.ones(len(query[b]), bool)
    if causal:
      seen[i + 1 :] = False
    if segments is not None:
      seen &= (segments[b] == segments[b, i]) & (segments[b, i] > 0)
    if not seen.any():
      continue
    q, k, v = query[b, i, h], key[b, seen, h], value[b, seen, h]
    total = (k @ q).sum() + 1e-12
    slope = (v - out[b, i, h]) @ grad[b, i, h] / total  # of each weight
    gradients[0][b, i, h] += slope @ k
    gradients[1][b, seen, h] += slope[:, None] * q
    gradients[2][b, seen, h] += (k @ q)[:, None] / total * grad[b, i, h]
  return gradients


def error(found, expected):
  """Relative root mean square."""
  difference = np.asarray(found, np.float64) - expected
  return np.sqrt(np.mean(difference**2) / np.mean(np.square(expected)))


class Contract:
  """What every implementation computes; `options` go to the op."""

  implementation: str
  options: dict = {}
  float64 = True

  def op(self, *args, segments=None, **kwargs):
    run = functools.partial(
      linear_attention,
      implementation=self.implementation,
      **{**self.options, **kwargs},
    )
    return jax.jit(run)(*args, segments=segments)

  def value_and_gradients(self, inputs, grad, **options):
    @jax.jit
    def run(inputs, grad):
      out, pull = jax.vjp(lambda *a: self.op(*a, **options), *inputs)
      return out, pull(grad.astype(out.dtype))

    return run(inputs, grad)

  @pytest.mark.parametrize("causal", [False, True])
  @pytest.mark.parametrize(
    "rows", [pytest.param("whole", marks=pytest.mark.slow), "packed"]
  )
  def test_equals_the_definition(self, causal, rows):
    segments = ROWS[rows]
    inputs = arrays()
    grad = np.random.default_rng(1).standard_normal(inputs[2].shape)
    out, gradients = self.value_and_gradients(
      [jnp.asarray(a, jnp.float32) for a in inputs],
      jnp.asarray(grad),
      causal=causal,
      segments=segments,
    )
    assert out.dtype == jnp.float32
    assert error(out, slow(*inputs, causal, segments)) < 1e-6
    expected = slow_gradients(*inputs, causal, segments, grad)
    for found, wanted in zip(gradients, expected):
      assert error(found, wanted) < 3e-6

  @pytest.mark.slow
  @pytest.mark.parametrize("causal", [False, True])
  @pytest.mark.parametrize("rows", ROWS)
  def test_float64_is_not_rounded(self, causal, rows):
    with jax.enable_x64(True):
      inputs = [jnp.asarray(a) for a in arrays()]
      if not self.float64:
        with pytest.raises(NotImplementedError, match="not float64"):
          self.op(*inputs, causal=causal, segments=ROWS[rows])
        return
      out = self.op(*inputs, causal=causal, segments=ROWS[rows])
      assert out.dtype == jnp.float64
      expected = slow(*arrays(), causal, ROWS[rows])
      np.testing.assert_allclose(out, expected, atol=1e-13)

  @pytest.mark.parametrize("causal", [False, True])
  def test_bfloat16_is_as_good_as_the_reference(self, causal):
    inputs = [jnp.asarray(a, jnp.bfloat16) for a in arrays()]
    grad = np.random.default_rng(1).standard_normal(inputs[2].shape)
    grad = jnp.asarray(grad, jnp.bfloat16)
    exact = [np.asarray(a, np.float64) for a in (*inputs, grad)]
    wanted = [
      slow(*exact[:3], causal, SEGMENTS),
      *slow_gradients(*exact[:3], causal, SEGMENTS, exact[3]),
    ]
    options = dict(causal=causal, segments=SEGMENTS)
    out, gradients = self.value_and_gradients(inputs, grad, **options)
    assert out.dtype == jnp.bfloat16
    plain = functools.partial(
      linear_attention, implementation="reference", **options
    )
    reference, pull = jax.vjp(plain, *inputs)
    found = [out, *gradients]
    same_precision = [reference, *pull(grad)]
    for f, s, w in zip(found, same_precision, wanted, strict=True):
      assert f.dtype == jnp.bfloat16
      assert error(f, w) < 2 * error(s, w)

  @pytest.mark.parametrize("causal", [False, True])
  def test_padding_may_hold_anything(self, causal):
    padding = jnp.asarray(SEGMENTS == 0)[..., None, None]
    inputs = [jnp.asarray(a, jnp.float32) for a in arrays()]
    broken = [jnp.where(padding, jnp.nan, a) for a in inputs]
    grad = jnp.ones_like(inputs[2])
    options = dict(causal=causal, segments=SEGMENTS)
    clean = self.value_and_gradients(inputs, grad, **options)
    dirty = self.value_and_gradients(broken, grad, **options)
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty)):
      np.testing.assert_array_equal(a, b)
      assert np.abs(np.where(padding, b, 0)).max() == 0
      assert np.abs(np.where(padding, 0, b)).max() > 1e-3

  @pytest.mark.parametrize("causal", [False, True])
  def test_packed_documents_are_as_if_alone(self, causal):
    inputs = [jnp.asarray(a, jnp.float32) for a in arrays()]
    packed = self.op(*inputs, causal=causal, segments=SEGMENTS)
    for low, high in ((16, 36), (36, 44)):
      alone = self.op(*(a[:1, low:high] for a in inputs), causal=causal)
      assert error(packed[:1, low:high], np.asarray(alone)) < 1e-6

  def test_the_future_is_not_seen(self):
    inputs = [jnp.asarray(a, jnp.float32) for a in arrays()]
    changed = [a.at[:, 31:].multiply(2.0) for a in inputs]
    out, other = (self.op(*a, causal=True) for a in (inputs, changed))
    np.testing.assert_array_equal(out[:, :31], other[:, :31])
    assert np.abs(out[:, 31:] - other[:, 31:]).max() > 1e-2

  def test_weights_are_scaled_away(self):
    """A convex combination: the value 1 comes out, features scale freely."""
    query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
    ones = self.op(query, key, jnp.ones_like(value), causal=True)
    np.testing.assert_allclose(ones, 1.0, atol=1e-6)
    out = self.op(query, key, value)
    scaled = self.op(query * 32.0, key / 4.0, value)
    np.testing.assert_allclose(out, scaled, atol=1e-6)

  def test_a_query_without_features_gives_zero(self):
    query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
    for causal in (False, True):
      out = self.op(query.at[:, 7].set(0.0), key, value, causal=causal)
      assert np.abs(out[:, 7]).max() == 0
      assert np.isfinite(out).all()

  def test_one_position(self):
    inputs = [jnp.asarray(a[:, :1], jnp.float32) for a in arrays()]
    for causal in (False, True):
      np.testing.assert_allclose(
        self.op(*inputs, causal=causal), inputs[2], rtol=1e-6
      )


class TestReference(Contract):
  implementation = "reference"


class TestChunked(Contract):
  implementation = "chunked"
  options = dict(chunk=8)

  @pytest.mark.parametrize("chunk", [1, 7, 64])
  def test_chunks_of_any_size(self, chunk):
    inputs = [jnp.asarray(a, jnp.float32) for a in arrays()]
    for causal in (False, True):
      out = self.op(*inputs, causal=causal, segments=SEGMENTS, chunk=chunk)
      assert error(out, slow(*arrays(), causal, SEGMENTS)) < 1e-6

  @pytest.mark.parametrize("causal, packed", [(False, True), (True, False)])
  def test_cost_is_linear(self, causal, packed):
    """Multiplications of the gradient; those of the reference grow by 16."""

    def cost(implementation, length):
      segments = jnp.ones((1, length), jnp.int32) if packed else None
      run = functools.partial(
        linear_attention,
        segments=segments,
        causal=causal,
        implementation=implementation,
      )
      shape = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
      loss = lambda *inputs: jnp.sum(run(*inputs))
      grad = jax.grad(loss, argnums=(0, 1, 2))
      return multiplications(jax.make_jaxpr(grad)(*[shape] * 3).jaxpr)

    ratio = lambda name: cost(name, 8192) / cost(name, 2048)
    assert ratio("chunked") == pytest.approx(4, rel=0.02)
    assert ratio("reference") == pytest.approx(16, rel=0.02)

  def test_long_rows_run(self):
    """Length 8192: the last document against itself alone."""
    inputs = [jnp.asarray(a[:1, :, :1], jnp.float32) for a in arrays(8192)]
    segments = np.repeat(np.arange(1, 65), 128)[None].astype(np.int32)
    segments[0, 8000:] = 64
    out = self.op(*inputs, segments=segments, chunk=128)
    last = [np.asarray(a)[:, 8000:] for a in inputs]
    expected = slow(*last, False, None)
    assert error(out[:, 8000:], expected) < 1e-6


class TestTriton(Contract):
  implementation = "triton:interpret"
  options = {}
  float64 = False

  def test_wide_features_and_a_long_row(self):
    """More than one chunk, and sizes that are no powers of two."""
    inputs = arrays(70, 24, 17)
    segments = np.repeat([1, 2, 0], [45, 20, 5])[None].repeat(B, 0)
    for causal in (False, True):
      out = self.op(
        *(jnp.asarray(a, jnp.float32) for a in inputs),
        causal=causal,
        segments=jnp.asarray(segments, jnp.int32),
      )
      assert error(out, slow(*inputs, causal, segments)) < 1e-6

  def test_columns_and_features_are_cut(self):
    """Two parts of each, the second one cut off, and their gradients."""
    inputs = arrays(20, 24, 17)
    segments = np.repeat([1, 2, 0], [9, 8, 3])[None].repeat(B, 0)
    run = functools.partial(
      triton.linear_attention,
      causal=True,
      segments=jnp.asarray(segments, jnp.int32),
      epsilon=1e-12,
      blocks=triton.Blocks(chunk=16, columns=16, depth=16),
      interpret=True,
    )
    grad = np.random.default_rng(1).standard_normal(inputs[2].shape)

    out, *found = forward_and_backward(run, inputs, grad)
    assert error(out, slow(*inputs, True, segments)) < 1e-6
    expected = slow_gradients(*inputs, True, segments, grad)
    for f, wanted in zip(found, expected, strict=True):
      assert error(f, wanted) < 3e-6

  def test_what_it_cannot_do_is_refused(self):
    query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
    with jax.enable_x64(True):
      wide = [jnp.asarray(a) for a in arrays()]
      with pytest.raises(NotImplementedError, match="float64"):
        linear_attention(*wide, implementation=self.implementation)
    query = jnp.tile(query, 30)
    with pytest.raises(NotImplementedError, match="registers"):
      linear_attention(query, query, value, implementation=self.implementation)
    with pytest.raises(NotImplementedError, match="needs a gpu"):
      linear_attention(key, key, value, implementation="triton")

  def test_a_mesh_splits_rows_and_heads(self):
    inputs = [jnp.asarray(a, jnp.float32) for a in arrays()]
    alone = self.op(*inputs, segments=SEGMENTS)
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), (AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
      out = self.op(*inputs, segments=SEGMENTS)
    np.testing.assert_array_equal(out, alone)
    three = [a[:, :, :1] for a in inputs]
    with jax.set_mesh(mesh), pytest.raises(NotImplementedError, match="mesh"):
      self.op(*three)


class TestMosaicTpu(Contract):
  implementation = "mosaic_tpu:interpret"
  float64 = False

  @pytest.mark.parametrize("causal", [False, True])
  def test_rows_of_many_chunks(self, causal):
    """Documents within chunks, over their borders and over whole chunks."""
    inputs = arrays(70, 24, 17)
    segments = np.repeat([1, 2, 3, 4, 0], [5, 7, 44, 9, 5])[None].repeat(B, 0)
    run = functools.partial(
      mosaic_tpu.linear_attention,
      causal=causal,
      segments=jnp.asarray(segments, jnp.int32),
      epsilon=1e-12,
      blocks=mosaic_tpu.Tiles(chunk=16, heads=1),
      interpret=True,
    )
    grad = np.random.default_rng(1).standard_normal(inputs[2].shape)
    found = forward_and_backward(run, inputs, grad)
    wanted = [
      slow(*inputs, causal, segments),
      *slow_gradients(*inputs, causal, segments, grad),
    ]
    for f, w in zip(found, wanted, strict=True):
      assert error(f, w) < 3e-6

  def test_what_it_cannot_do_is_refused(self):
    query, key, value = (jnp.asarray(a, jnp.float16) for a in arrays())
    with pytest.raises(NotImplementedError, match="float16"):
      self.op(query, key, value)
    wide = jnp.zeros((1, 8, 1, 600))
    with pytest.raises(NotImplementedError, match="600 features"):
      self.op(wide, wide, wide)
    with pytest.raises(NotImplementedError, match="needs a tpu"):
      linear_attention(key, key, value, implementation="mosaic_tpu")


def forward_and_backward(run, inputs, grad):
  """[output, gradients of the three inputs], in float32."""

  @jax.jit
  def both(inputs, grad):
    out, pull = jax.vjp(run, *inputs)
    return out, *pull(grad)

  small = [jnp.asarray(a, jnp.float32) for a in (*inputs, grad)]
  return both(small[:3], small[3])


def multiplications(jaxpr) -> int:
  """Of all matrix products in a program, loops counted out."""
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      contracted = eqn.params["dimension_numbers"][0][0]
      shape = eqn.invars[0].aval.shape
      total += eqn.outvars[0].aval.size * math.prod(
        shape[axis] for axis in contracted
      )
    times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      total += times * multiplications(inner)
  return total


def test_names_never_fall_back():
  inputs = [jnp.asarray(a, jnp.float32) for a in arrays()]
  with pytest.raises(NotImplementedError, match="'chunky' is not one of"):
    linear_attention(*inputs, implementation="chunky")
  with pytest.raises(ValueError, match="chunk 8 with 'reference'"):
    linear_attention(*inputs, implementation="reference", chunk=8)
  assert {"reference", "chunked"} <= set(implementations())


def test_the_choice_is_linear():
  """The default must not write out [length, length] scores."""
  shape = jax.ShapeDtypeStruct((1, 4096, 1, 8), jnp.float32)
  text = jax.jit(linear_attention).lower(shape, shape, shape).as_text()
  assert "4096x4096" not in text


def test_shapes_that_do_not_fit_are_refused():
  query, key, value = (jnp.asarray(a, jnp.float32) for a in arrays())
  with pytest.raises(ValueError, match="must be"):
    linear_attention(query, key[..., :2], value)
  with pytest.raises(ValueError, match="segments"):
    linear_attention(query, key, value, segments=SEGMENTS[:, :3])
