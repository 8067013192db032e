"""FlexiBERT's operations against sums written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors, paths
from jaxlm.layers import transforms
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.mixers import mixers
from jaxlm.layers.positions import positions
from tests import tiny

ROWS, LENGTH, WIDTH, HEADS = 2, 16, 24, 2
DIM = WIDTH // HEADS
REAL = tiny.SEGMENTS > 0
RELATIVE = dict(max_length=20)


def draw(*shape, seed=0):
  return 0.3 * np.random.default_rng(seed).standard_normal(shape)


def run(kind, **fields):
  """A mixer in float64 on packed rows: (output, its parameters)."""
  with jax.enable_x64(True):
    place = positions.build(
      dict(kind="relative_key", **RELATIVE), dtype=jnp.float64
    )
    given = dict(heads=HEADS, width=WIDTH, dtype=jnp.float64, positions=place)
    part = mixers.build(dict(kind=kind), **(given | fields))
    x, ctx = draw(ROWS, LENGTH, WIDTH), tiny.context()
    shapes = tiny.shapes(part, x, ctx)
    rng = np.random.default_rng(1)
    params = jax.tree.map(
      lambda leaf: 0.3 * rng.standard_normal(leaf.shape),
      nn.meta.unbox(shapes),
    )
    out = jax.jit(part.apply)(params, x, ctx)
    return np.asarray(out), paths.flatten(params["params"])


def changed(name, x, axes=(1, 2), orthonormal=True):
  """A transform of numpy's float64, which is compiled whole."""
  run = lambda x: transforms.transform(name)(x, axes, orthonormal=orthonormal)
  with jax.enable_x64(True):
    return np.asarray(jax.jit(run)(x))


def mapped(params, name, x):
  return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def attended(params, x, compare, heads=HEADS):
  """Attention by loops, [rows, length, width] before the output map."""
  value = mapped(params, "value", x).reshape(ROWS, LENGTH, heads, -1)
  query = mapped(params, "query", x).reshape(value.shape)
  table = params["positions/table"]
  out = np.zeros_like(value)
  for row in range(ROWS):
    for i in np.flatnonzero(REAL[row]):
      seen = np.flatnonzero(tiny.SEGMENTS[row] == tiny.SEGMENTS[row, i])
      for head in range(heads):
        q = query[row, i, head]
        scores = np.array(
          [
            compare(head, q, row, j)
            + q @ table[i - j + RELATIVE["max_length"] - 1]
            for j in seen
          ]
        ) / np.sqrt(value.shape[-1])
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        out[row, i, head] = weights @ value[row, seen, head]
  return out


def close(found, params, mixed):
  expected = mapped(params, "output", mixed.reshape(ROWS, LENGTH, -1))
  np.testing.assert_allclose(found[REAL], expected[REAL], atol=1e-10)


@pytest.mark.parametrize("kind", ["attention", "weighted_attention"])
def test_scores_of_queries_and_distances(kind):
  """Relative keys in every layer; M between queries and keys alone."""
  found, params = run(kind)
  x = draw(ROWS, LENGTH, WIDTH)
  key = mapped(params, "key", x).reshape(ROWS, LENGTH, HEADS, -1)
  between = params.get("weights", np.eye(DIM))
  close(
    found,
    params,
    attended(params, x, lambda h, q, r, j: q @ between @ key[r, j, h]),
  )


def test_a_row_may_not_be_longer_than_the_table():
  with pytest.raises(errors.UserError, match="max_length=9, but a row has 16"):
    run(
      "attention",
      positions=positions.build(dict(kind="relative_key", max_length=9)),
    )


@pytest.mark.parametrize("orthonormal", [False, True])
def test_transforms_are_those_of_scipy(orthonormal):
  fft = pytest.importorskip("scipy.fft")
  x, norm = draw(2, 16, 3, 12), "ortho" if orthonormal else None
  found = [changed(name, x, (1, 3), orthonormal) for name in ("dft", "dct")]
  expected = np.fft.fft2(x, axes=(1, 3), norm=norm).real
  np.testing.assert_allclose(found[0], expected, atol=1e-11)
  expected = fft.dctn(x, type=2, axes=(1, 3), norm=norm)
  np.testing.assert_allclose(found[1], expected, atol=1e-11)
  with pytest.raises(errors.UserError, match="No transform is called 'fft'"):
    transforms.transform("fft")


def test_a_cosine_transform_is_its_sum():
  x = draw(1, 5, 4)
  cosines = lambda n: np.cos(
    np.pi * np.arange(n)[:, None] * (2 * np.arange(n) + 1) / (2 * n)
  )
  expected = 4 * np.einsum("kn,ld,bnd->bkl", cosines(5), cosines(4), x)
  with jax.enable_x64(True):
    part = mixers.build(dict(kind="cosine"))
    ctx = tiny.context(np.ones((1, 5), np.int32))
    found = jax.jit(part.apply)({}, x, ctx)
  np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["dft", "dct"])
def test_a_transform_beside_attention_to_positions(name):
  found, params = run("transform_attention", transform=name)
  x = np.where(REAL[..., None], draw(ROWS, LENGTH, WIDTH), 0)
  mixed = changed(name, x)
  context = attended(params, draw(ROWS, LENGTH, WIDTH), lambda *_: 0.0)
  close(found, params, mixed.reshape(context.shape) + context)


def test_without_positions_values_are_averaged():
  found, params = run("transform_attention", positions=None)
  assert "query/kernel" not in params
  x = draw(ROWS, LENGTH, WIDTH)
  mixed = changed("dct", np.where(REAL[..., None], x, 0))
  value = mapped(params, "value", x)
  mean = np.zeros_like(value)
  for row, segments in enumerate(tiny.SEGMENTS):
    for document in range(1, segments.max() + 1):
      same = segments == document
      mean[row, same] = value[row, same].mean(0)
  close(found, params, mixed + mean)


def test_each_head_does_its_own():
  """Comparing heads by loops, transforms of a head's values by numpy."""
  operations = ("sdp", "wma", "dft", "dct")
  found, params = run("mixed_heads", heads=4, operations=operations)
  x = draw(ROWS, LENGTH, WIDTH)
  key, value = (
    mapped(params, name, x).reshape(ROWS, LENGTH, 4, -1)
    for name in ("key", "value")
  )
  between = {0: np.eye(6), 1: params["weights_1"][0]}

  def compare(head, q, row, j):
    return q @ between[head] @ key[row, j, head] if head in between else 0.0

  context = attended(params, x, compare, heads=4)
  real = np.where(REAL[..., None, None], value, 0)
  for head in (2, 3):
    context[:, :, head] += changed(operations[head], real[:, :, head])
  close(found, params, context)


def test_heads_convolve_by_kernels_of_their_own():
  """One head changes nothing of what another gives, and taps stop."""
  operations = ("conv_3", "conv_3", "sdp")
  found, params = run("mixed_heads", heads=3, operations=operations)
  x = draw(ROWS, LENGTH, WIDTH)
  names = ("query", "key", "value")
  query, key, value = (
    mapped(params, n, x).reshape(ROWS, LENGTH, 3, 8) for n in names
  )
  one = lambda q, r, j: q @ key[r, j, 2]
  context = attended(
    params, x, lambda h, q, r, j: one(q, r, j) if h == 2 else 0.0, heads=3
  )
  own = lambda name, x, head: (
    x @ params[f"span_0/{name}/kernel"][head]
    + params[f"span_0/{name}/bias"].reshape(2, -1)[head]
  )
  for row in range(ROWS):
    for i in np.flatnonzero(REAL[row]):
      taps = [
        (k, i + k - 1)
        for k in range(3)
        if 0 <= i + k - 1 < LENGTH
        and tiny.SEGMENTS[row, i + k - 1] == tiny.SEGMENTS[row, i]
      ]
      for head in range(2):
        filters = params["span_0/depthwise/filter"].reshape(3, 2, 8)[:, head]
        span = sum(filters[k] * key[row, j, head] for k, j in taps)
        span = own("pointwise", span, head) * query[row, i, head]
        kernel = np.exp(own("kernel", span, head))
        kernel /= kernel.sum()
        context[row, i, head] += sum(
          kernel[k] * own("value", value[row, j, head], head) for k, j in taps
        )
  close(found, params, context)


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(operations=("sdp", "conv_4")), "no operation 'conv_4'"),
    (dict(operations=("sdp",)), "heads=2 but 1 operations"),
    (dict(operations=("sdp", "sdp"), width=25), "heads=2 do not divide"),
    (
      dict(
        operations=("dct", "dct"), positions=positions.build({"kind": "rotary"})
      ),
      "no head that compares them",
    ),
  ],
)
def test_heads_that_do_not_fit(fields, words):
  with pytest.raises(errors.UserError, match=words):
    run("mixed_heads", **fields)


def test_what_keeps_heads_from_packed_rows():
  build = lambda *operations, **fields: mixers.build(
    dict(kind="mixed_heads", heads=2, operations=operations, **fields), width=8
  )
  assert not build("sdp", "conv_3").leaks
  assert "convolutions" in build("sdp", "conv_3", parity=True).leaks
  assert "documents" in build("sdp", "dct").leaks


def test_maps_on_end():
  """Three activations between four maps."""
  x = draw(1, 3, WIDTH).astype(np.float32)
  part = feedforwards.build(
    dict(kind="stacked", widths=(5, 7, 6), activation="relu"), width=WIDTH
  )
  params = tiny.host(tiny.fill(tiny.shapes(part, x, None)))
  flat = paths.flatten(params["params"])
  expected = x
  for number in range(3):
    expected = np.maximum(mapped(flat, f"input_{number}", expected), 0)
  expected = mapped(flat, "output", expected)
  np.testing.assert_allclose(
    jax.jit(part.apply)(params, x, None), expected, atol=1e-6
  )
  with pytest.raises(errors.UserError, match="needs a width"):
    feedforwards.build(dict(kind="stacked", widths=()), width=4).init(
      jax.random.key(0), x, None
    )
