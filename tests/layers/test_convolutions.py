"""Short and dynamic convolutions, grouped maps, ConvBERT's mixed attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors, paths
from jaxlm.layers import convolutions
from jaxlm.layers.grouped import GroupedDense
from jaxlm.layers.mixers import mixers
from jaxlm.layers.mixers._span_convolution import SpanConvolution
from jaxlm.layers.primitives import Initializer
from jaxlm.models import assembly
from tests import tiny
from tests.test_recipes import shapes

NORMAL = nn.initializers.normal(1.0)
HEADS, HEAD_DIM, TAPS = 2, 8, 5
ONES = np.ones((1, 2), np.int32)


def draw(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("causal, width", [(False, 5), (True, 4), (True, 3)])
def test_a_depthwise_convolution_of_each_document_alone(causal, width):
  """Against numpy's convolution of one feature of one document at a time."""
  x, taps = draw(2, 16, 3), draw(width, 3)
  found = convolutions.depthwise(
    jnp.asarray(x), jnp.asarray(taps), jnp.asarray(tiny.SEGMENTS), causal=causal
  )
  before = width - 1 if causal else width // 2
  for row, documents in enumerate(tiny.SEGMENTS):
    for document in range(1, documents.max() + 1):
      places = np.flatnonzero(documents == document)
      for c in range(3):
        full = np.convolve(x[row, places, c], taps[::-1, c])
        start = width - 1 - before
        np.testing.assert_allclose(
          found[row, places, c], full[start : start + len(places)], atol=1e-5
        )


def test_an_even_width_has_no_centre():
  with pytest.raises(errors.UserError, match="kernel_size=4 is even"):
    convolutions.depthwise(jnp.zeros((1, 3, 2)), jnp.zeros((4, 2)))


def grouped(groups, features=12):
  axes = ("embed", "mlp")
  return GroupedDense(features, groups, axes=axes, kernel_init=NORMAL)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_map_is_a_block_diagonal_one(groups):
  x = draw(2, 5, 8)
  module = grouped(groups)
  params = tiny.fill(tiny.shapes(module, jnp.asarray(x)))["params"]
  kernel = np.zeros((8, 12), np.float32)
  for g, block in enumerate(np.asarray(params["kernel"])):
    rows, columns = block.shape
    inside = (slice(g * rows, (g + 1) * rows),)
    kernel[(*inside, slice(g * columns, (g + 1) * columns))] = block
  found = module.apply({"params": params}, jnp.asarray(x))
  expected = x @ kernel + np.asarray(params["bias"])
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.count_nonzero(kernel) == 8 * 12 // groups


def test_groups_that_do_not_divide_are_refused():
  with pytest.raises(errors.UserError, match="groups=5 do not divide 8"):
    tiny.shapes(grouped(5), jnp.zeros((1, 2, 8)))


def mixed(**fields):
  spec = dict(kind="mixed_attention", heads=HEADS, kernel_size=TAPS, **fields)
  return mixers.build(spec, width=tiny.WIDTH)


def convolved(params, x, ctx, **fields):
  """The convolution half of a mixer, whose output map passes it alone."""
  output = np.zeros((tiny.WIDTH, tiny.WIDTH), np.float32)
  half = tiny.WIDTH // 2
  output[half:, :half] = np.eye(half)
  params = dict(params)
  params["output"] = dict(kernel=jnp.asarray(output), bias=jnp.zeros(32))
  y = mixed(**fields).apply({"params": params}, jnp.asarray(x), ctx)
  return np.asarray(y)[..., :half]


@pytest.fixture(scope="module")
def params():
  x = jnp.zeros((2, 16, tiny.WIDTH))
  return tiny.fill(tiny.shapes(mixed(), x, tiny.context()))["params"]


def with_kernel(params, bias):
  """Kernels that do not depend on the text: softmax(bias) for each head."""
  logits = jnp.tile(jnp.asarray(bias, jnp.float32), HEADS)
  weight = jnp.zeros((HEADS * HEAD_DIM, HEADS * TAPS))
  span = {**params["span"], "kernel": {"kernel": weight, "bias": logits}}
  return {**params, "span": span}


def values_of(params, x):
  value = params["span"]["value"]
  return x @ np.asarray(value["kernel"]) + np.asarray(value["bias"])


def test_kernels_without_weights_average(params):
  x, ctx = draw(2, 16, tiny.WIDTH), tiny.context(np.ones((2, 16), np.int32))
  found = convolved(with_kernel(params, np.zeros(TAPS)), x, ctx)
  values = np.pad(values_of(params, x), ((0, 0), (2, 2), (0, 0)))
  expected = sum(values[:, k : k + 16] for k in range(TAPS)) / TAPS
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("tap", [0, 2, 4])
def test_a_kernel_of_one_tap_shifts(params, tap):
  x, ctx = draw(2, 16, tiny.WIDTH), tiny.context(np.ones((2, 16), np.int32))
  found = convolved(with_kernel(params, 100.0 * np.eye(TAPS)[tap]), x, ctx)
  values = np.pad(values_of(params, x), ((0, 0), (2, 2), (0, 0)))
  np.testing.assert_allclose(found, values[:, tap : tap + 16], atol=1e-5)


def test_away_from_the_ends_a_shift_of_the_text_shifts_the_output(params):
  x, ctx = draw(2, 16, tiny.WIDTH), tiny.context(np.ones((2, 16), np.int32))
  first = convolved(params, x, ctx)
  second = convolved(params, np.roll(x, 3, 1), ctx)
  # Two taps of the dynamic kernel; its own makes four.
  np.testing.assert_allclose(first[:, 2:11], second[:, 5:14], atol=1e-5)
  assert np.abs(first[:, :9] - first[:, 5:14]).max() > 0.1


def test_scores_reach_the_attention_half_alone(params):
  """A score bias moves the outputs; the convolution half stays."""
  x = draw(2, 16, tiny.WIDTH)
  alibi = assembly.position_parts.build(dict(kind="alibi", heads=HEADS))
  plain = tiny.context()
  biased = alibi.apply({}, plain, method="prepare")
  apply = lambda ctx: mixed().apply({"params": params}, jnp.asarray(x), ctx)
  assert np.abs(apply(plain) - apply(biased)).max() > 0.1
  np.testing.assert_array_equal(
    convolved(params, x, plain), convolved(params, x, biased)
  )


def test_a_packed_document_is_what_it_is_alone(params):
  """Both halves; the document stands in the middle of a row."""
  x = draw(2, 16, tiny.WIDTH)
  run = lambda x, segments: mixed().apply(
    {"params": params}, jnp.asarray(x), tiny.context(segments)
  )
  places = tiny.SEGMENTS[0] == 2
  alone = run(x[:1, places], np.ones((1, places.sum()), np.int32))
  packed = run(x, tiny.SEGMENTS)[0, places]
  np.testing.assert_allclose(packed, alone[0], atol=1e-5)


def test_parity_lets_padding_in_and_is_refused_on_packed_rows(params):
  x = draw(2, 16, tiny.WIDTH)
  other = np.where(tiny.SEGMENTS[..., None] > 0, x, 1.0)
  run = lambda x: convolved(params, x, tiny.context(), parity=True)
  moved = np.abs(run(x) - run(other))[tiny.SEGMENTS > 0]
  assert moved.max() > 0.1
  assert assembly.leaks(mixed()) == {}
  assert "documents" in assembly.leaks(mixed(parity=True))["MixedAttention"]


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(heads=3), "2 . heads=6 do not divide width=32"),
    (dict(kernel_size=4), "kernel_size=4 is even"),
    (dict(convolution_implementation="trition"), "did you mean 'triton'"),
    (dict(implementation="trition"), "did you mean 'triton'"),
  ],
)
def test_what_cannot_be_is_told(fields, message):
  part = mixers.build(
    dict(kind="mixed_attention") | dict(heads=2) | fields, width=tiny.WIDTH
  )
  with pytest.raises(errors.UserError, match=message):
    tiny.shapes(part, jnp.zeros((2, 16, tiny.WIDTH)), tiny.context())


def test_the_span_filter_starts_as_released():
  """Standard deviation 1 / width, truncated at two of them."""
  part = SpanConvolution(2, 8, 9, initializer=Initializer(truncated=True))
  shapes = tiny.shapes(part, jnp.zeros((1, 2, 32)), 1.0, tiny.context(ONES))
  taps = shapes["params"]["depthwise"]["filter"]
  assert taps.unbox().shape == (9, 32)
  drawn = part._tap_init()(jax.random.key(0), (9, 512))
  assert np.abs(drawn).max() <= 2 / 9
  assert abs(np.std(drawn) * 9 - 0.88) < 0.02


@pytest.mark.parametrize(
  "variant, parameters",
  [
    ("small", 13_143_768),
    ("medium_small", 17_475_888),
    ("base", 105_680_520),
  ],
)
def test_convbert_has_the_published_parameters(variant, parameters):
  found = shapes("convbert", variant)
  body = {k: v for k, v in found.items() if not k.startswith("heads_")}
  assert paths.count(body) == parameters
