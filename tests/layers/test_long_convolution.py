"""Hyena and Monarch against convolutions that are written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import configuration, recipe
from jaxlm.data import datasets
from jaxlm.errors import UserError
from jaxlm.layers.mixers import _long_convolution, _long_filter, mixers
from jaxlm.models import assembly
from pallas_kernels.fft_convolution import fft_convolution, frequencies
from tests import tiny
from tests.tiny import switched

WIDTH, LENGTH = tiny.WIDTH, tiny.LENGTH
# One document a row, padding behind and before it.
ROWS = np.array([[1] * 12 + [0] * 4, [0] * 3 + [1] * 13], np.int32)


def mixer(kind, dtype=jnp.float32, **fields):
  spec = dict(kind=kind, width=WIDTH, max_length=LENGTH, **fields)
  return mixers.build(spec, dtype=dtype, param_dtype=dtype)


def apply(module, variables, x, ctx):
  """The output, as one compiled program."""
  return jax.jit(module.apply)(variables, jnp.asarray(x), ctx)


def inputs(length=LENGTH, seed=1):
  return np.random.default_rng(seed).standard_normal((2, length, WIDTH))


def drawn(module, x, ctx, scale=0.3):
  return tiny.fill(tiny.shapes(module, jnp.asarray(x), ctx), scale=scale)


def network(params, places, frequency):
  """The sine network in numpy."""
  x = places
  for i in range(3):
    layer = params[f"layer_{i}"]
    x = np.sin(frequency * (x @ layer["weight"] + layer["bias"]))
  return x @ params["output"]["weight"]


def sides(params, taps, grid):
  """Filters for what came before (distance 0 on) and after (1 on), skips."""
  width = params["skip"].shape[0]
  time = np.arange(taps)[:, None] / (grid - 1)
  decay = np.linspace(np.log(100) / 1.5, np.log(100) / 0.3, width)[None]
  draw = lambda name: (
    network(params[name], params["places"][:taps], params["frequency"])
    * np.exp(-time * decay)
  )
  ahead = draw("ahead") if "ahead" in params else np.zeros((taps, width))
  return draw("back"), ahead[: taps - 1], params["skip"]


def direct(u, back, ahead, skip):
  """Each sum written out; `ahead` begins with distance 1."""
  y = skip * u
  for t, s in np.ndindex(u.shape[1], u.shape[1]):
    side, at = (back, t - s) if t >= s else (ahead, s - t - 1)
    if at < len(side):
      y[:, t] += side[at] * u[:, s]
  return y


def projected(params, x, real):
  """The input map and the causal convolution of three taps."""
  p = (x @ params["input"]["kernel"] + params["input"]["bias"]) * real
  taps, out = params["short"]["filter"], 0.0
  for k in range(len(taps)):
    back = len(taps) - 1 - k
    out = (
      out + taps[k] * np.pad(p, ((0, 0), (back, 0), (0, 0)))[:, : p.shape[1]]
    )
  return out + params["short"]["bias"]


def hyena_by_hand(params, x, segments, order, taps, grid):
  real = (segments > 0)[..., None]
  *gates, v = np.split(projected(params, x, real), order + 1, -1)
  back, ahead, skip = sides(params["filter"], taps, grid)
  for i, gate in enumerate(gates[:0:-1]):
    at = np.s_[..., i :: order - 1]
    v = direct(v * gate * real, back[at], ahead[at], skip[at])
  return (v * gates[0]) @ params["output"]["kernel"] + params["output"]["bias"]


def monarch_by_hand(params, x, segments, taps, grid):
  real = (segments > 0)[..., None]
  before, after, v = np.split(projected(params, x, real), 3, -1)
  y = after * direct(v * before * real, *sides(params["filter"], taps, grid))
  if "residual_filter" in params:
    y = y + direct(x * real, *sides(params["residual_filter"], taps, grid))
  return y @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize(
  "kind, fields",
  [
    ("hyena", dict(causal=True)),
    ("hyena", dict(causal=True, order=3, taps=5)),
    ("hyena", dict()),
    ("hyena", dict(causal=True, implementation="monarch")),
    ("monarch", dict()),
    ("monarch", dict(taps=5, residual=False)),
  ],
  ids=str,
)
def test_it_is_the_direct_convolution(kind, fields):
  """In float64, with padding on either side."""
  with switched("jax_enable_x64", True):
    module = mixer(kind, jnp.float64, **fields)
    x, ctx = inputs(), tiny.context(ROWS)
    variables = drawn(module, x, ctx)
    out = apply(module, variables, x, ctx)
    params, taps = tiny.host(variables["params"]), fields.get("taps") or LENGTH
    if kind == "hyena":
      expected = hyena_by_hand(
        params, x, ROWS, fields.get("order", 2), taps, LENGTH
      )
    else:
      expected = monarch_by_hand(params, x, ROWS, taps, LENGTH)
    np.testing.assert_allclose(
      tiny.real(out, ROWS), tiny.real(expected, ROWS), atol=1e-11
    )


def test_rows_longer_than_the_grid_are_read_by_sliding():
  with switched("jax_enable_x64", True):
    module = mixer("hyena", jnp.float64, causal=True)
    x, segments = inputs(40), np.ones((2, 40), np.int32)
    variables = drawn(module, x, tiny.context(segments))
    out = apply(module, variables, x, tiny.context(segments))
    expected = hyena_by_hand(
      tiny.host(variables["params"]), x, segments, 2, LENGTH, LENGTH
    )
    np.testing.assert_allclose(out, expected, atol=1e-11)


def test_a_causal_hyena_looks_back_only():
  """By gradient, in float64: what is left is the rounding of transforms."""
  with switched("jax_enable_x64", True):
    module = mixer("hyena", jnp.float64, causal=True)
    x, ctx = inputs()[:1], tiny.context(np.ones((1, LENGTH), np.int32))
    variables = drawn(module, x, ctx)
    run = lambda x: jnp.sum(module.apply(variables, x, ctx)[0, 7])
    slope = np.abs(jax.jit(jax.grad(run))(jnp.asarray(x)))[0].max(-1)
    assert slope[8:].max() < 1e-14 and slope[:8].min() > 1e-3


@pytest.mark.parametrize("kind", ["hyena", "monarch"])
def test_the_amount_of_padding_does_not_matter(kind):
  """Unless as in the released code, where it does."""
  x = inputs()
  for parity in (False, True):
    module = mixer(kind, parity=parity)
    variables = drawn(module, x, tiny.context(ROWS))
    padded = apply(module, variables, x, tiny.context(ROWS))
    alone = np.ones((1, 12), np.int32)
    row = jnp.asarray(x[:1, :12])
    alone = apply(module, variables, row, tiny.context(alone))
    difference = np.abs(np.asarray(padded)[0, :12] - np.asarray(alone)[0])
    assert (difference.max() < 1e-5) == (not parity)


def test_the_filter_is_the_papers():
  """Its decays (the sheet's numbers), features, and what an impulse gives."""
  decays = _long_filter.decays(864)
  np.testing.assert_allclose(decays[[0, -1]], [3.0701, 15.3506], atol=1e-4)
  made = _long_filter.features(8, 5)
  time, turns = np.arange(8) / 7, np.array([1e-4, 1.0])
  waves = np.exp(-2j * np.pi * np.arange(8)[:, None] / 8 * turns[None])
  np.testing.assert_allclose(
    made, np.concatenate([time[:, None], waves.real, waves.imag], 1), atol=1e-12
  )
  part = _long_filter.LongFilter(width=3, max_length=8, count=5, units=4)
  variables = tiny.fill(tiny.shapes(part, 8))
  ((taps, skip),) = part.apply(variables, 8)
  impulse = jnp.zeros((1, 8, 3)).at[0, 2].set(1.0)
  out = fft_convolution(impulse, taps, skip=skip)
  np.testing.assert_allclose(out[0, 2], taps[0] + skip, atol=1e-6)
  np.testing.assert_allclose(out[0, 3:], taps[1:6], atol=1e-6)


def test_features_of_time_start_as_they_are():
  part = _long_filter.LongFilter(width=3, max_length=8, count=5, units=4)
  params = part.init(jax.random.key(0), 8)["params"]
  places, frequency = params["places"].unbox(), params["frequency"].unbox()
  np.testing.assert_allclose(places, _long_filter.features(8, 5), atol=1e-6)
  np.testing.assert_array_equal(frequency, np.full(4, 14.0))


def test_a_filter_without_its_high_frequencies():
  """The filter of rows at most as long as the grid, in numpy."""
  kept = dict(kind="low_pass", kept=9)
  with switched("jax_enable_x64", True):
    module = mixer("monarch", jnp.float64, frequencies=kept, residual=False)
    x, segments = inputs(), np.ones((2, LENGTH), np.int32)
    variables = drawn(module, x, tiny.context(segments))
    params = tiny.host(variables["params"])
    before, after, v = np.split(projected(params, x, 1.0), 3, -1)
    back, ahead, skip = sides(params["filter"], LENGTH, LENGTH)
    circle = np.concatenate([back, np.zeros((1, WIDTH)), ahead[::-1]])
    spectrum = np.fft.rfft(circle, axis=0)
    spectrum[9:] = 0.0
    u = v * before
    y = np.fft.rfft(u, 2 * LENGTH, axis=1) * spectrum[None]
    y = np.fft.irfft(y, axis=1)[:, :LENGTH] + skip * u
    last = params["output"]
    expected = (y * after) @ last["kernel"] + last["bias"]
    out = apply(module, variables, x, tiny.context(segments))
    np.testing.assert_allclose(out, expected, atol=1e-11)


def test_a_frequency_sparse_filter_is_not_causal():
  """It rings: the last input reaches the first outputs."""
  rng = np.random.default_rng(0)
  back = np.exp(-0.3 * np.arange(32))[:, None] * rng.standard_normal((32, 1))
  filter = jnp.asarray(np.concatenate([np.zeros((31, 1)), back]), jnp.float32)
  x = jnp.zeros((1, 32, 1)).at[0, -1].set(1.0)
  run = lambda mask: np.abs(
    fft_convolution(x, filter, causal=False, frequency_mask=mask)
  )[0, :16].max()
  assert run(None) < 1e-6
  assert run(frequencies.low_pass(64, 16)) > 1e-2
  with pytest.raises(UserError, match="looks ahead"):
    ctx = tiny.context(ROWS)
    sparse = dict(kind="low_pass", kept=8)
    drawn(mixer("hyena", causal=True, frequencies=sparse), inputs(), ctx)


SEGMENTS = np.array([[0] * 3 + [1] * 9, [1] * 12], np.int32)


def test_decoding_equals_the_full_forward():
  spec = tiny.model_spec(
    kind="decoder",
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(kind="hyena", max_length=8, causal=True),
        feedforward=dict(kind="mlp", hidden=48),
      )
    ),
    heads=dict(causal_lm=dict(kind="causal_lm")),
  )
  model, params = tiny.build(spec)
  batch = {k: tiny.batch(SEGMENTS)[k] for k in ("inputs", "segments")}
  full = jax.jit(model.apply)(params, batch)["causal_lm"]
  run = jax.jit(
    functools.partial(model.apply, cache_length=12, mutable="cache")
  )
  piece = lambda at: {k: v[:, at : at + 4] for k, v in batch.items()}
  shapes = tiny.shapes(model, piece(0), cache_length=12)
  cache = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes["cache"])
  chunks = []
  for at in range(0, 12, 4):
    out, updated = run({**params, "cache": cache}, piece(at))
    cache = updated["cache"]
    chunks.append(out["causal_lm"])
  np.testing.assert_allclose(
    tiny.real(np.concatenate(chunks, 1), SEGMENTS),
    tiny.real(full, SEGMENTS),
    atol=1e-4,
  )


@pytest.mark.parametrize("length", [1024, 8192])
def test_long_rows(length):
  """One channel against numpy's own convolution, on a CPU."""
  part = _long_filter.LongFilter(
    width=2, max_length=length, count=9, units=8, frequency=1.0
  )
  variables = tiny.fill(tiny.shapes(part, length))
  ((taps, skip),) = part.apply(variables, length)
  x = np.random.default_rng(0).standard_normal((1, length, 2))
  x = x.astype(np.float32)
  out = _long_convolution.convolve(jnp.asarray(x), taps, skip, causal=True)
  for c in range(2):
    expected = (
      np.convolve(np.float64(x[0, :, c]), np.asarray(taps, np.float64)[:, c])[
        :length
      ]
      + np.float64(skip[c]) * x[0, :, c]
    )
    np.testing.assert_allclose(out[0, :, c], expected, atol=1e-4)


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(filter_features=4), "odd and at least 3"),
    (dict(taps=17), "at most max_length=16"),
    (dict(implementation="monrch"), "Did you mean 'monarch'"),
    (dict(frequencies=dict(kind="lowpass")), "Did you mean 'low_pass'"),
    (dict(frequencies=dict(kind="low_pass")), "takes kept; found nothing"),
    (
      dict(frequencies=dict(kind="monarch", factors=(4, 4), kept=(2, 4))),
      "mixer.frequencies: a mask of 9 frequencies",
    ),
  ],
  ids=str,
)
def test_what_does_not_fit_is_told(fields, message):
  for kind in ("hyena", "monarch"):
    with pytest.raises(UserError, match=message):
      drawn(mixer(kind, **fields), inputs(), tiny.context(ROWS))


def test_an_order_below_two_is_told():
  with pytest.raises(UserError, match="order is 1"):
    drawn(mixer("hyena", order=1), inputs(), tiny.context(ROWS))


@pytest.mark.parametrize(
  "name, part", [("hyena", "Hyena"), ("m2bert", "Monarch")]
)
def test_packed_rows_are_refused(name, part):
  config = configuration.load(f"{name}:tiny").to_dict()
  model = assembly.build(config["model"], vocab_size=tiny.VOCAB)
  recipe.check_packing(model, datasets.build(config["data"]))
  packed = config["data"] | dict(arrangement=dict(kind="documents"))
  with pytest.raises(UserError, match=f"{part} cannot read several documents"):
    recipe.check_packing(model, datasets.build(packed))
