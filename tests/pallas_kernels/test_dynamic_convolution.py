"""Dynamic convolution: every backend against a loop in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from pallas_kernels.dynamic_convolution import (
  choose,
  dynamic_convolution,
  implementations,
  mosaic_tpu,
  triton,
)


def packed(*rows):
  """Segment ids from (id, length) runs."""
  return np.array([[i for i, n in row for _ in range(n)] for row in rows])


# length, heads, head_dim, width, segments
CASES = {
  "odd length": (37, 2, 64, 9, None),
  "packed, empty row": (
    70, 3, 32, 9,
    packed([(1, 20), (2, 3), (3, 1), (4, 36), (0, 10)], [(0, 70)]),
  ),
  "head of 72, width 5": (33, 1, 72, 5, packed([(3, 16), (1, 17)], [(7, 33)])),
  "head of 128, width 3": (130, 1, 128, 3, None),
  "width 17 over short documents": (
    53, 2, 32, 17, packed([(1, 5), (2, 40), (0, 3), (3, 5)], [(1, 53)]),
  ),
  "row shorter than the window": (
    4, 1, 32, 9, packed([(1, 4)], [(1, 2), (0, 2)]),
  ),
  "one position, one tap": (1, 1, 32, 1, None),
  "two heads": (20, 2, 32, 3, packed([(1, 9), (2, 11)], [(1, 15), (0, 5)])),
}  # fmt: skip

MESH_CASE = "two heads"


def arrays(case, seed=0):
  """values, logits, grad_out float64 and segments."""
  length, heads, head_dim, width, segments = CASES[case]
  rng = np.random.default_rng(seed)
  shape = 2, length, heads, head_dim
  values, grad_out = rng.standard_normal((2, *shape))
  logits = 2.0 * rng.standard_normal((*shape[:3], width))
  return values, logits, grad_out, segments


def slow(values, logits, grad_out, segments):
  """(out, grad_values, grad_logits), one tap at a time from the definition."""
  batch, length, _, _ = values.shape
  width = logits.shape[-1]
  out, grad_values = np.zeros_like(values), np.zeros_like(values)
  grad_logits = np.zeros_like(logits)
  for b, t in np.ndindex(batch, length):
    if segments is not None and segments[b, t] == 0:
      continue
    taps = np.exp(logits[b, t] - logits[b, t].max(-1, keepdims=True))
    taps = taps / taps.sum(-1, keepdims=True)
    grad_taps = np.zeros_like(taps)
    for k in range(width):
      s = t + k - (width - 1) // 2
      if not 0 <= s < length:
        continue
      if segments is not None and segments[b, s] != segments[b, t]:
        continue
      out[b, t] += taps[:, k, None] * values[b, s]
      grad_values[b, s] += taps[:, k, None] * grad_out[b, t]
      grad_taps[:, k] = np.sum(grad_out[b, t] * values[b, s], -1)
    mean = np.sum(taps * grad_taps, -1, keepdims=True)
    grad_logits[b, t] = taps * (grad_taps - mean)
  return out, grad_values, grad_logits


@functools.partial(jax.jit, static_argnums=(4, 5))
def everything(values, logits, grad_out, segments, implementation, interpret):
  """(out, grad_values, grad_logits)."""
  out, pull = jax.vjp(
    lambda v, w: dynamic_convolution(
      v, w, segments=segments, implementation=implementation,
      interpret=interpret,
    ),
    values, logits,
  )  # fmt: skip
  return out, *pull(grad_out)


def error(found, exact):
  """Relative RMS."""
  found = np.asarray(found, np.float64)
  size = np.sqrt(np.mean(exact**2))
  return np.sqrt(np.mean((found - exact) ** 2)) / (size if size else 1.0)


class Contract:
  """What every backend promises."""

  implementation: str
  dtypes = jnp.bfloat16, jnp.float16

  def run(self, values, logits, grad_out, segments, dtype=jnp.float32):
    args = [jnp.asarray(x, dtype) for x in (values, logits, grad_out)]
    segments = None if segments is None else jnp.asarray(segments, jnp.int32)
    return everything(*args, segments, self.implementation, True)

  @pytest.mark.parametrize("case", CASES)
  def test_equals_the_definition(self, case):
    given = arrays(case)
    for found, exact in zip(self.run(*given), slow(*given)):
      assert found.shape == exact.shape and found.dtype == jnp.float32
      assert error(found, exact) < 3e-6

  @pytest.mark.parametrize(
    "case,dtype",
    [
      ("packed, empty row", jnp.bfloat16),
      ("head of 72, width 5", jnp.float16),
      ("odd length", jnp.bfloat16),
    ],
  )
  def test_short_floats_err_little_more_than_xla(self, case, dtype):
    *given, segments = arrays(case)
    if dtype not in self.dtypes:
      with pytest.raises(NotImplementedError, match=f"not {dtype.dtype.name}"):
        self.run(*given, segments, dtype=dtype)
      return
    given = [np.asarray(jnp.asarray(x, dtype), float) for x in given]
    given.append(segments)
    found = self.run(*given, dtype=dtype)
    plain = Contract.run(TestReference(), *given, dtype=dtype)
    for mine, xla, exact in zip(found, plain, slow(*given)):
      assert mine.dtype == dtype
      assert error(mine, exact) <= 2 * error(xla, exact)

  def test_mixed_types(self):
    """Float32 logits with bfloat16 values; each gradient has its own type."""
    values, logits, grad_out, segments = arrays("packed, empty row")
    values, grad_out = (
      jnp.asarray(x, jnp.bfloat16) for x in (values, grad_out)
    )
    logits = jnp.asarray(logits, jnp.float32)
    found = everything(
      values, logits, grad_out, segments, self.implementation, True
    )
    types = [x.dtype for x in found]
    assert types == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    exact = slow(
      np.asarray(values, float), logits, np.asarray(grad_out, float), segments
    )
    assert error(found[0], exact[0]) < 4e-3
    assert error(found[1], exact[1]) < 4e-3
    assert error(found[2], exact[2]) < 4e-3

  def test_what_padding_holds_is_never_seen(self):
    case = "packed, empty row"
    values, logits, grad_out, segments = arrays(case)
    clean = self.run(values, logits, grad_out, segments)
    for x in (values, logits, grad_out):
      x[segments == 0] = np.nan
    dirty = self.run(values, logits, grad_out, segments)
    for a, b in zip(clean, dirty):
      np.testing.assert_array_equal(a, b)
      assert not np.any(np.asarray(b)[segments == 0])

  def test_a_packed_document_is_as_alone(self):
    values, logits, grad_out, segments = arrays("packed, empty row")
    together = self.run(values, logits, grad_out, segments)
    place = np.flatnonzero(segments[0] == 4)
    alone = self.run(*(x[:1, place] for x in (values, logits, grad_out)), None)
    for a, b in zip(together, alone):
      np.testing.assert_allclose(a[:1, place], b, rtol=1e-5, atol=1e-6)

  def test_uniform_taps_average_and_one_tap_shifts(self):
    values, logits, grad_out, _ = arrays("odd length")
    mean = self.run(values, np.zeros_like(logits), grad_out, None)[0]
    wide = np.pad(values, ((0, 0), (4, 4), (0, 0), (0, 0)))
    windows = [wide[:, k : k + 37] for k in range(9)]
    assert error(mean, sum(windows) / 9) < 1e-6
    logits = np.where(np.arange(9) == 6, 1e4, -1e4) + 0 * logits
    shifted, _, grad_logits = self.run(values, logits, grad_out, None)
    assert error(shifted, windows[6]) < 1e-6
    assert np.max(np.abs(grad_logits)) < 1e-6

  def test_huge_logits_stay_finite(self):
    values, logits, grad_out, _ = arrays("odd length")
    given = values, 1e4 * logits, grad_out, None
    for found, exact in zip(self.run(*given), slow(*given)):
      assert np.all(np.isfinite(found))
      assert np.max(np.abs(found - exact)) < 1e-4


class TestReference(Contract):
  implementation = "reference"

  @pytest.mark.parametrize("case", CASES)
  def test_is_exact_in_float64(self, case):
    given = arrays(case)
    with jax.enable_x64(True):
      found = everything(*given, "reference", False)
    for x, exact in zip(found, slow(*given)):
      np.testing.assert_allclose(x, exact, atol=1e-12)

  def test_has_second_derivatives(self):
    values, logits, _, segments = arrays("row shorter than the window")
    values = values[..., :2]

    def loss(logits):
      out = dynamic_convolution(values, logits, segments=segments)
      return jnp.sum(out**2)

    @jax.jit
    def along(logits, step):  # and the same by a central difference
      gradient = jax.grad(loss)
      around = gradient(logits + 1e-5 * step) - gradient(logits - 1e-5 * step)
      return jax.jvp(gradient, (logits,), (step,))[1], around / 2e-5

    with jax.enable_x64(True):
      found, exact = along(logits, np.cos(logits))
      assert error(found, np.asarray(exact)) < 1e-8


class TestTriton(Contract):
  implementation = "triton"

  @pytest.mark.parametrize("square,rows", [(64, 32), (64, 16)])
  def test_other_tiles(self, square, rows):
    values, logits, grad_out, segments = arrays("packed, empty row")
    out, pull = jax.vjp(
      lambda v, w: dynamic_convolution(
        v, w, segments=segments, implementation="triton",
        blocks=triton.Tiles(rows=rows, square=square), interpret=True,
      ),
      *(jnp.asarray(x, jnp.float32) for x in (values, logits)),
    )  # fmt: skip
    found = out, *pull(jnp.asarray(grad_out, jnp.float32))
    for x, exact in zip(found, slow(values, logits, grad_out, segments)):
      assert error(x, exact) < 3e-6

  def test_says_what_it_cannot_do(self):
    x = jnp.ones((1, 8, 1, 32))
    with pytest.raises(NotImplementedError, match="widths to 33"):
      self.run(x, jnp.ones((1, 8, 1, 35)), x, None)
    with pytest.raises(NotImplementedError, match="not int32"):
      self.run(x, x[..., :3], x, None, dtype=jnp.int32)
    with pytest.raises(NotImplementedError, match="square of 32"):
      dynamic_convolution(
        x, jnp.ones((1, 8, 1, 17)), implementation="triton",
        blocks=triton.Tiles(), interpret=True,
      )  # fmt: skip


class TestMosaicTpu(Contract):
  implementation = "mosaic_tpu"
  dtypes = (jnp.bfloat16,)

  def test_blocks_take_what_they_need_of_their_neighbours(self):
    """Three blocks to a row, the last of them partly past its end."""
    rng = np.random.default_rng(0)
    values, grad_out = rng.standard_normal((2, 1, 215, 1, 32))
    logits = rng.standard_normal((1, 215, 1, 9))
    segments = packed([(1, 90), (2, 10), (3, 94), (0, 1), (4, 20)])
    values[segments == 0] = np.nan
    run = lambda v, w: dynamic_convolution(
      v, w, segments=segments, implementation="mosaic_tpu",
      blocks=mosaic_tpu.Tiles(windows=1), interpret=True,
    )  # fmt: skip
    args = [jnp.asarray(x, jnp.float32) for x in (values, logits)]
    out, pull = jax.jit(lambda *args: jax.vjp(run, *args))(*args)
    found = out, *pull(jnp.asarray(grad_out, jnp.float32))
    for x, exact in zip(found, slow(values, logits, grad_out, segments)):
      assert error(x, exact) < 3e-6

  def test_more_taps_than_lanes(self):
    """Taps of 9 heads of width 17 take two registers' widths."""
    rng = np.random.default_rng(0)
    values, grad_out = rng.standard_normal((2, 1, 20, 9, 16))
    given = values, rng.standard_normal((1, 20, 9, 17)), grad_out, None
    for found, exact in zip(self.run(*given), slow(*given)):
      assert error(found, exact) < 3e-6

  def test_says_what_it_cannot_do(self):
    x = jnp.ones((1, 8, 1, 32))
    with pytest.raises(NotImplementedError, match="widths to 33"):
      self.run(x, jnp.ones((1, 8, 1, 35)), x, None)
    with pytest.raises(NotImplementedError, match="not float16"):
      self.run(x, x[..., :3], x, None, dtype=jnp.float16)
    with pytest.raises(NotImplementedError, match="do not fit"):
      dynamic_convolution(
        x, x[..., :3], implementation="mosaic_tpu", interpret=True,
        blocks=mosaic_tpu.Tiles(vmem_bytes=1000),
      )  # fmt: skip


def test_what_does_not_fit_is_refused():
  x = jnp.ones((1, 8, 1, 32))
  with pytest.raises(ValueError, match="even"):
    dynamic_convolution(x, x[..., :4])
  with pytest.raises(ValueError, match="alike"):
    dynamic_convolution(x, x[:, :5, :, :3])
  with pytest.raises(ValueError, match="segments"):
    dynamic_convolution(x, x[..., :3], segments=jnp.ones((8,), jnp.int32))
  with pytest.raises(NotImplementedError, match="'cuda' is not one of"):
    dynamic_convolution(x, x[..., :3], implementation="cuda")


def test_nothing_in_nothing_out():
  x = jnp.ones((2, 0, 1, 32))
  assert dynamic_convolution(x, x[..., :3]).shape == x.shape


def test_reference_is_chosen_where_nothing_was_measured():
  assert choose("cpu")[0] == "reference"
  assert choose("gpu", "NVIDIA H200")[0] == "reference"
  assert {"reference", "triton", "mosaic_tpu:interpret"} <= set(
    implementations()
  )


@pytest.mark.parametrize("name", ["triton", "mosaic_tpu"])
def test_a_kernel_under_a_mesh_is_the_kernel_alone(name):
  """Rows over `data`, heads over `tensor`, and nothing is communicated."""
  given = [np.asarray(x, np.float32) for x in arrays(MESH_CASE)[:3]]
  segments = np.asarray(arrays(MESH_CASE)[3], np.int32)
  alone = everything(*given, segments, name, True)
  mesh = jax.make_mesh(
    (2, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  rows = jax.sharding.NamedSharding(mesh, P("data", None, "tensor", None))
  given = [jax.device_put(x, rows) for x in given]
  with jax.set_mesh(mesh):
    program = everything.lower(*given, segments, name, True).compile()
    together = program(*given, segments)
  for a, b in zip(alone, together):
    np.testing.assert_allclose(a, b, atol=1e-6)
  for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
    assert word not in program.as_text()
