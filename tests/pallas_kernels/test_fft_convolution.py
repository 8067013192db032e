"""Long convolution against a direct sum in float64."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from pallas_kernels.fft_convolution import (
  fft_convolution,
  implementations,
  triton,
)
from pallas_kernels.fft_convolution import frequencies as masks
from pallas_kernels.fft_convolution import plan as plans

B, C = 2, 3
# (length, taps, causal): whole, odd, partial, longer than the row, tiny.
SHAPES = [
  (64, 64, True),
  (37, 37, False),
  (100, 20, True),
  (50, 9, False),
  (30, 45, False),
  (1, 1, True),
]


@functools.cache
def arrays(length, taps, causal, seed=0):
  rng = np.random.default_rng(seed)
  rows = taps if causal else 2 * taps - 1
  x, gate_in, gate_out, grad = rng.standard_normal((4, B, length, C))
  filter = rng.standard_normal((rows, C))
  inputs = dict(x=x, filter=filter, gate_in=gate_in, gate_out=gate_out)
  return inputs | {"skip": rng.standard_normal(C)}, grad


def matrix(filter, length, causal):
  """[to, from, channels] of the convolution."""
  middle = 0 if causal else len(filter) // 2
  distance = np.arange(length)[:, None] - np.arange(length)[None, :] + middle
  inside = (distance >= 0) & (distance < len(filter))
  taps = filter[np.clip(distance, 0, len(filter) - 1)]
  return np.where(inside[..., None], taps, 0.0)


def slow(x, filter, gate_in, gate_out, skip, causal, grad):
  """Output and gradients by the definition, float64."""
  length = x.shape[1]
  weights, u, g = matrix(filter, length, causal), gate_in * x, gate_out * grad
  inner = np.einsum("tsc,bsc->btc", weights, u) + skip * u
  grad_u = np.einsum("tsc,btc->bsc", weights, g) + skip * g
  pairs = np.einsum("btc,bsc->tsc", g, u)
  middle = 0 if causal else len(filter) // 2
  lags = [np.einsum("ttc->c", _shift(pairs, d - middle))
          for d in range(len(filter))]  # fmt: skip
  return gate_out * inner, dict(
    x=grad_u * gate_in,
    filter=np.stack(lags),
    gate_in=grad_u * x,
    gate_out=grad * inner,
    skip=np.einsum("btc,btc->c", g, u),
  )


def _shift(pairs, lag):
  """pairs[t, t - lag] on the diagonal, 0 where that is outside."""
  out, length = np.zeros_like(pairs), len(pairs)
  for t in range(length):
    if 0 <= t - lag < length:
      out[t, t] = pairs[t, t - lag]
  return out


def error(found, expected):
  """Relative root mean square."""
  difference = np.asarray(found, np.float64) - expected
  return np.sqrt(np.mean(difference**2) / np.mean(np.square(expected)))


class Contract:
  """What every implementation computes; `options` go to the op."""

  implementation: str
  options: dict = {}
  float64 = True
  slack = 0.0  # beyond twice the reference's error with 16 bits

  def op(self, *args, **kwargs):
    return fft_convolution(
      *args, implementation=self.implementation, **{**self.options, **kwargs}
    )

  def value_and_gradients(self, inputs, grad, causal):
    @jax.jit
    def run(inputs, grad):
      out, pull = jax.vjp(lambda i: self.op(**i, causal=causal), inputs)
      return out, pull(grad.astype(out.dtype))[0]

    return run(inputs, grad)

  @pytest.mark.parametrize("length, taps, causal", SHAPES)
  def test_equals_the_definition(self, length, taps, causal):
    inputs, grad = arrays(length, taps, causal)
    out, gradients = self.value_and_gradients(
      {name: jnp.asarray(a, jnp.float32) for name, a in inputs.items()},
      jnp.asarray(grad, jnp.float32),
      causal,
    )
    expected, slopes = slow(**inputs, causal=causal, grad=grad)
    assert out.dtype == jnp.float32
    assert error(out, expected) < 1e-6
    for name, wanted in slopes.items():
      assert error(gradients[name], wanted) < 3e-6, name

  def test_float64_is_not_rounded(self):
    inputs, grad = arrays(37, 37, False)
    with jax.enable_x64(True):
      wide = {name: jnp.asarray(a) for name, a in inputs.items()}
      if not self.float64:
        with pytest.raises(NotImplementedError, match="not float64"):
          self.op(**wide, causal=False)
        return
      out, slopes = self.value_and_gradients(wide, jnp.asarray(grad), False)
      expected, wanted = slow(**inputs, causal=False, grad=grad)
      assert out.dtype == jnp.float64
      assert error(out, expected) < 1e-14
      assert error(slopes["filter"], wanted["filter"]) < 1e-14

  def test_bfloat16_is_as_good_as_the_reference(self):
    """The filter in float32, the rest in bfloat16, as models have them."""
    inputs, grad = arrays(100, 100, True)
    small = {name: jnp.asarray(a, jnp.bfloat16) for name, a in inputs.items()}
    small["filter"] = jnp.asarray(inputs["filter"], jnp.float32)
    grad = jnp.asarray(grad, jnp.bfloat16)
    exact = {name: np.asarray(a, np.float64) for name, a in small.items()}
    expected, wanted = slow(
      **exact, causal=True, grad=np.asarray(grad, np.float64)
    )
    out, slopes = self.value_and_gradients(small, grad, True)
    other = type("R", (Contract,), {"implementation": "reference"})()
    same, same_slopes = other.value_and_gradients(small, grad, True)
    assert out.dtype == jnp.bfloat16
    assert error(out, expected) < 2 * error(same, expected)
    for name, right in wanted.items():
      assert slopes[name].dtype == small[name].dtype
      bound = 2 * error(same_slopes[name], right) + self.slack
      assert error(slopes[name], right) < bound, name

  @pytest.mark.parametrize(
    "make",
    [
      lambda: masks.low_pass(96, 20),
      lambda: masks.monarch(96, (12, 8), (4, 3)),
      lambda: np.arange(49) % 3 == 1,
      lambda: np.zeros(49, bool),
    ],
    ids=["low pass", "block", "comb", "nothing"],
  )
  def test_a_mask_is_a_masked_spectrum(self, make):
    mask, length = make(), 48
    inputs, grad = arrays(length, length, False)
    x, filter = inputs["x"], inputs["filter"]
    circle = np.zeros((96, C))
    circle[np.arange(-47, 48)] = filter
    weights = np.fft.irfft(np.fft.rfft(circle, axis=0) * mask[:, None], 96, 0)
    lag = (np.arange(length)[:, None] - np.arange(length)[None, :]) % 96
    run = functools.partial(self.op, causal=False, frequency_mask=mask)
    small = [jnp.asarray(a, jnp.float32) for a in (x, filter, grad)]
    out, pull = jax.vjp(jax.jit(run), *small[:2])
    slope = np.einsum("tsc,btc->bsc", weights[lag], grad)
    expected = np.einsum("tsc,bsc->btc", weights[lag], x)
    if not mask.any():
      assert np.abs(out).max() == 0
      return
    assert error(out, expected) < 3e-6
    slopes = pull(small[2])
    assert error(slopes[0], slope) < 3e-6
    products = np.fft.rfft(grad, 96, 1) * np.fft.rfft(x, 96, 1).conj()
    lags = np.fft.irfft(products.sum(0) * mask[:, None], 96, 0)
    assert error(slopes[1], lags[np.arange(-47, 48)]) < 3e-6

  def test_the_future_is_not_seen(self):
    inputs, _ = arrays(64, 64, True)
    x, filter = (jnp.asarray(inputs[n], jnp.float32) for n in ("x", "filter"))
    run = jax.jit(self.op)
    change = np.abs(run(x, filter) - run(x.at[:, 40:].set(0.0), filter))
    assert change[:, :40].max() < 1e-5 < 1e-1 < change[:, 40:].max()

  def test_shifts_go_through(self):
    inputs, _ = arrays(64, 20, True)
    x, filter = (jnp.asarray(inputs[n], jnp.float32) for n in ("x", "filter"))
    run = jax.jit(self.op)
    shifted = jnp.pad(x, ((0, 0), (7, 0), (0, 0)))[:, :64]
    assert error(run(shifted, filter)[:, 7:], np.asarray(run(x, filter))[:, :-7]) < 1e-6  # fmt: skip  # noqa: E501

  def test_an_impulse_gives_the_filter(self):
    inputs, _ = arrays(100, 20, True)
    filter = jnp.asarray(inputs["filter"], jnp.float32)
    x = jnp.zeros((1, 100, C)).at[:, 3].set(1.0)
    out = np.asarray(jax.jit(self.op)(x, filter))
    assert error(out[0, 3:23], inputs["filter"]) < 1e-6
    assert np.abs(out[0, 23:]).max() < 1e-5


class TestReference(Contract):
  implementation = "reference"


class TestMonarch(Contract):
  implementation = "monarch"

  def test_long_rows_run(self):
    inputs, _ = arrays(8192, 8192, True)
    x, filter = (jnp.asarray(inputs[n], jnp.float32) for n in ("x", "filter"))
    out = jax.jit(self.op)(x[:1, :, :1], filter[:, :1])
    x, filter = inputs["x"][0, :, 0], inputs["filter"][:, 0]
    assert error(out[0, :, 0], np.convolve(x, filter)[:8192]) < 3e-6

  def test_cost_grows_slower_than_the_square(self):
    few, many = (multiplications(self.op, length) for length in (2048, 8192))
    direct = 2048**2 * C
    assert few < direct / 2
    assert many / few < 9  # order 2: 8; the square: 16

  def test_a_mask_saves_products(self):
    mask = masks.monarch(4096, (128, 32), (32, 8))
    full = np.ones(2049, bool)
    cost = lambda mask: multiplications(
      functools.partial(self.op, causal=False, frequency_mask=mask, order=2),
      2048,
    )
    assert cost(mask) < cost(full) / 2.5
    assert cost(masks.low_pass(4096, 256)) < cost(full) / 2


class TestTriton(Contract):
  implementation = "triton:interpret"
  float64 = False
  slack = 1e-5  # numbers of 16 bits, the filter's gradient too

  test_a_mask_is_a_masked_spectrum = None

  @pytest.mark.parametrize(
    "length, taps, causal",
    [
      (37, 37, False),  # sequences of all channels in one tile
      (200, 20, True),  # most of the circle holds samples
      pytest.param(100, 20, True, marks=pytest.mark.slow),
      pytest.param(30, 45, False, marks=pytest.mark.slow),
      pytest.param(1, 1, True, marks=pytest.mark.slow),
    ],
  )
  def test_equals_the_definition(self, length, taps, causal):
    super().test_equals_the_definition(length, taps, causal)

  @pytest.mark.slow
  def test_the_future_is_not_seen(self):
    super().test_the_future_is_not_seen()

  @pytest.mark.slow
  def test_shifts_go_through(self):
    super().test_shifts_go_through()

  @pytest.mark.parametrize("length", [700, 2048])
  def test_long_rows_run(self, length):
    """Fewer rows than a program takes are left; 4 and 8 warps."""
    rng = np.random.default_rng(0)
    x, gate = rng.standard_normal((2, 3, length, 1))
    filter = rng.standard_normal((length, 1))
    run = functools.partial(
      triton.fft_convolution,
      causal=True,
      frequency_mask=None,
      blocks=triton.Blocks(batch=2),
      interpret=True,
    )
    x, gate, filter = (jnp.asarray(a, jnp.float32) for a in (x, gate, filter))
    out = jax.jit(run)(x, filter, gate_in=gate)
    u = np.asarray(x, np.float64) * np.asarray(gate, np.float64)
    filter = np.asarray(filter, np.float64)
    for found, row in zip(out, u, strict=True):
      expected = np.convolve(row[:, 0], filter[:, 0])[:length]
      assert error(found[:, 0], expected) < 3e-6

  def test_a_mesh_splits_rows_and_channels(self):
    rng = np.random.default_rng(0)
    x, filter = rng.standard_normal((2, 40, 4)), rng.standard_normal((9, 4))
    x, filter = jnp.asarray(x, jnp.bfloat16), jnp.asarray(filter, jnp.float32)

    def slopes(x, filter):
      out, pull = jax.vjp(self.op, x, filter)
      return out, *pull(x)

    alone = jax.jit(slopes)(x, filter)
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), (AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
      found = jax.jit(slopes)(x, filter)
      with pytest.raises(NotImplementedError, match="mesh"):
        self.op(x[:1], filter)
    for a, b in zip(found, alone, strict=True):
      assert error(a, np.asarray(b, np.float64)) < 1e-6

  def test_what_it_cannot_do_is_refused(self):
    x, filter = jnp.zeros((1, 48, 2)), jnp.zeros((95, 2))
    mask = masks.low_pass(96, 20)
    with pytest.raises(NotImplementedError, match="mask"):
      self.op(x, filter, causal=False, frequency_mask=mask)
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="64"):
      self.op(jnp.zeros((1, 8, 2), jnp.float64), filter)
    long = jnp.zeros((1, 2100, 2))
    with pytest.raises(NotImplementedError, match="4199 .* 4096, .* float32"):
      self.op(long, jnp.zeros((2100, 2)))
    shape = jax.ShapeDtypeStruct((1, 4096, 2), jnp.bfloat16)
    taps = jax.ShapeDtypeStruct((4096, 2), jnp.float32)
    assert jax.eval_shape(self.op, shape, taps).shape == shape.shape
    with pytest.raises(NotImplementedError, match="needs a gpu"):
      fft_convolution(x, filter, implementation="triton")


@pytest.mark.slow
class TestMonarchOfThree(TestMonarch):
  options = dict(order=3)

  test_a_mask_saves_products = None


def multiplications(op, length):
  """Of the matrix products of one row."""
  rows = length if "causal" not in getattr(op, "keywords", {}) else 2047 * 2 + 1
  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.float32)
    for shape in ((1, length, C), (rows, C))
  ]
  return _count(jax.make_jaxpr(op)(*shapes).jaxpr)


def _count(jaxpr):
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      contracted = eqn.params["dimension_numbers"][0][0]
      shape = eqn.invars[0].aval.shape
      total += eqn.outvars[0].aval.size * math.prod(
        shape[axis] for axis in contracted
      )
    total += sum(map(_count, jax.extend.core.jaxprs_in_params(eqn.params)))
  return total


@pytest.mark.parametrize(
  "needed, order", [(16, 2), (255, 2), (1999, 3), (16383, None)]
)
def test_a_plan_is_a_transform(needed, order):
  """Its matrices on an impulse give the frequencies k + 1/2."""
  plan = plans.plan(needed // 2 + 1, needed, order, None)
  assert plan.points >= needed and len(plan.factors) == (order or 3)
  assert plan.points < 1.1 * needed + 16
  frequency = np.zeros((1,) * len(plan.factors))
  scale = 1
  for s, digits in enumerate(plan.kept):
    axes = [1] * len(plan.kept)
    axes[s] = -1
    frequency = frequency + scale * digits.reshape(axes)
    scale *= plan.factors[s]
  n = plan.points // 3
  found, rest = np.ones((1,)), n
  for s in range(len(plan.factors)):
    row = math.prod(plan.factors[s + 1 :])
    real, imaginary = plan.analysis(s)
    column = (real + 1j * imaginary)[:, rest // row]
    rest %= row
    if s < len(plan.twiddles):
      real, imaginary = plan.twiddles[s]
      column = column * (real + 1j * imaginary)[:, rest]
    found = found[..., None] * column
  expected = np.exp(-2j * np.pi * n * (frequency + 0.5) / plan.points)
  np.testing.assert_allclose(found[0], expected, atol=1e-11)


def test_names_never_fall_back():
  x, filter = jnp.zeros((1, 8, 2)), jnp.zeros((8, 2))
  assert {"reference", "monarch"} <= set(implementations())
  with pytest.raises(NotImplementedError, match="did you mean 'monarch'"):
    fft_convolution(x, filter, implementation="monarchy")
  with pytest.raises(ValueError, match="order 2 with 'reference'"):
    fft_convolution(x, filter, implementation="reference", order=2)


def test_what_does_not_fit_is_refused():
  x, filter = jnp.zeros((1, 8, 2)), jnp.zeros((8, 2))
  with pytest.raises(ValueError, match="look ahead"):
    fft_convolution(x, filter, frequency_mask=np.ones(9, bool))
  with pytest.raises(ValueError, match="no middle"):
    fft_convolution(x, filter, causal=False)
  with pytest.raises(ValueError, match="need 15"):
    mask = np.ones(7, bool)
    wide = jnp.zeros((15, 2))
    fft_convolution(x, wide, causal=False, frequency_mask=mask)
  with pytest.raises(ValueError, match="gate_in"):
    fft_convolution(x, filter, gate_in=x[:, 1:])
  with pytest.raises(ValueError, match="97 points"):
    masks.low_pass(97, 4)
