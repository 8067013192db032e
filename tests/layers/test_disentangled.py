"""Facts of DeBERTa's attention (arXiv:2006.03654), without transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.layers.blocks.post_norm_convolution import _windows
from jaxlm.layers.mixers import mixers
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.disentangled import RelativeTable
from jaxlm.models import assembly
from tests import tiny
from tests.contracts import cases

WIDTH, HEADS, DIM = tiny.WIDTH, tiny.HEADS, tiny.WIDTH // tiny.HEADS
ONE = np.ones((1, tiny.LENGTH), np.int32)
FORMS = {
  "v1": (
    dict(buckets=0, max_distance=6),
    dict(share_key=False, key_bias=False),
  ),
  "v2": (dict(buckets=4, max_distance=32), dict()),
  "c2p": (dict(buckets=4, max_distance=32), dict(terms=("c2p",))),
  "paper": (dict(buckets=0, max_distance=32), dict(p2c_index="key_query")),
}


def parts(form):
  table, fields = FORMS[form]
  table = positions.build({"kind": "disentangled", "width": WIDTH, **table})
  spec = {"kind": "disentangled_attention", "heads": HEADS, "width": WIDTH}
  return table, mixers.build({**spec, **fields})


def given(rows=1, seed=0):
  shape = (rows, tiny.LENGTH, WIDTH)
  x = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(x, jnp.float32)


def shared(table, segments=ONE, **changes):
  """The context with the rows that a part drew, and those rows."""
  ctx = tiny.context(segments)
  variables = tiny.fill(tiny.shapes(table, ctx, method="prepare"), seed=7)
  variables = jax.tree.map(lambda leaf: changes.get("by", 1) * leaf, variables)
  ctx = table.apply(variables, ctx, method="prepare")
  return ctx, np.asarray(variables["params"]["relative"], np.float64)


@functools.cache
def drawn(form):
  mixer = parts(form)[1]
  return tiny.fill(tiny.shapes(mixer, given(), shared(parts(form)[0])[0]))


def by_hand(form, x, rows):
  """Equation 4, one pair of tokens at a time, float64."""
  table, mixer = parts(form)
  params = tiny.host(drawn(form)["params"])

  def split(name, x):
    map_ = params[name]
    out = np.asarray(x, np.float64) @ map_["kernel"] + map_.get("bias", 0)
    return out.reshape(*out.shape[:-1], HEADS, DIM)

  apart = "" if mixer.share_key else "position_"
  q, k, v = split("query", x), split("key", x), split("value", x)
  rq = split(f"{apart}query", rows) if "p2c" in mixer.terms else None
  rk = split(f"{apart}key", rows)
  span, length = len(rows) // 2, len(x)
  scores = np.zeros((HEADS, length, length))
  for i in range(length):
    for j in range(length):
      at = place(i - j, span, table)
      scores[:, i, j] = np.sum(q[i] * k[j] + q[i] * rk[at], -1)
      if "p2c" in mixer.terms:
        at = place(j - i, span, table) if form == "paper" else at
        scores[:, i, j] += np.sum(k[j] * rq[at], -1)
  scores /= np.sqrt((1 + len(mixer.terms)) * DIM)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(length, -1)
  return mixed @ params["output"]["kernel"] + params["output"]["bias"]


def place(distance, span, table):
  """The row of a distance: its own, or of its logarithmic bucket."""
  if table.buckets:
    middle, away = (
      table.buckets // 2,
      min(abs(distance), table.max_distance - 1),
    )
    if away > middle:
      ratio = np.log(away / middle) / np.log((table.max_distance - 1) / middle)
      away = int(np.ceil(ratio * (middle - 1))) + middle
    distance = int(np.sign(distance)) * away
  return int(np.clip(distance + span, 0, 2 * span - 1))


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_the_paper_and_the_release(form):
  table, mixer = parts(form)
  ctx, rows = shared(table)
  out = jax.jit(mixer.apply)(drawn(form), given(), ctx)
  expected = by_hand(form, np.asarray(given()[0]), rows)
  np.testing.assert_allclose(out[0], expected, atol=1e-4)


def test_without_a_table_it_is_attention_at_temperature_root_3():
  table, mixer = parts("v2")
  ctx, _ = shared(table, by=0)  # rows of 0; biases are the same everywhere
  weights = jax.tree.map(lambda leaf: leaf, drawn("v2"))
  for name in ("query", "key"):
    bias = weights["params"][name]["bias"]
    weights["params"][name]["bias"] = jnp.zeros_like(bias)
  spec = {"kind": "attention", "heads": HEADS, "width": WIDTH}
  plain = mixers.build(spec)
  expected = plain.apply(weights, given(), tiny.context(ONE, score_terms=3))
  np.testing.assert_allclose(
    mixer.apply(weights, given(), ctx), expected, atol=1e-5
  )


def test_a_document_may_begin_anywhere():
  """Only distances count: the same tokens, moved by 5 places."""
  table, mixer = parts("v2")
  segments = np.array([[1] * 5 + [2] * 9 + [0] * 2], np.int32)
  x = given()
  moved = jnp.roll(x, 5, axis=1)
  alone = np.array([[1] * 9 + [0] * 7], np.int32)
  run = jax.jit(mixer.apply)
  first = run(drawn("v2"), x, shared(table, alone)[0])
  second = run(drawn("v2"), moved, shared(table, segments)[0])
  np.testing.assert_allclose(first[0, :9], second[0, 5:14], atol=1e-5)


@pytest.mark.parametrize("buckets, longest", [(0, 8), (8, 64), (0, 512)])
def test_only_rows_that_are_reached_are_compared(buckets, longest):
  span = buckets or longest
  rows = np.arange(2 * span, dtype=np.float32)[:, None]
  made = RelativeTable(rows, buckets, longest)
  reached, forth, back = made.reached(20, 20)
  assert len(reached) <= min(2 * span, 2 * 20)
  table = positions.build(
    dict(kind="disentangled", width=1, buckets=buckets, max_distance=longest)
  )
  for distance in range(-19, 20):
    at = reached[forth[19 - distance], 0]
    assert at == place(distance, span, table), distance
    assert reached[back[19 + distance], 0] == at


def test_the_convolution_reads_neighbours_of_the_same_document():
  case = cases.Case(cases.blocks, "post_norm_convolution")
  block = case.part()
  x, ctx = given(2), tiny.context()
  variables = tiny.fill(tiny.shapes(block, x, ctx))
  found = block.apply(variables, x, ctx, method="_convolved")
  kernel, bias = (
    np.asarray(variables["params"][f"convolution_{name}"], np.float64)
    for name in ("kernel", "bias")
  )
  x, expected = np.asarray(x, np.float64), np.zeros(x.shape)
  for row, t in zip(*np.nonzero(tiny.SEGMENTS)):
    expected[row, t] = bias
    for k in range(3):
      at = t + k - 1
      inside = 0 <= at < tiny.LENGTH
      if inside and tiny.SEGMENTS[row, at] == tiny.SEGMENTS[row, t]:
        expected[row, t] += x[row, at] @ kernel[k]
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert len(_windows(jnp.asarray(x), ctx.segments, 5)) == 5


@pytest.mark.parametrize(
  "kind, fields, reason",
  [
    ("mixer", dict(heads=5), "heads=5 do not divide width=32"),
    ("mixer", dict(terms=("c2c",)), "no term 'c2c'"),
    ("mixer", dict(terms=()), "has no terms"),
    ("mixer", dict(p2c_index="ji"), "no p2c_index 'ji'"),
    ("position", dict(biased_input=True), "max_length is unset"),
    ("position", dict(buckets=64, max_distance=32), "buckets=64"),
    ("block", dict(kernel_size=4), "kernel_size=4 is even"),
  ],
)
def test_what_does_not_fit_is_refused(kind, fields, reason):
  layer = tiny.layer(
    block=dict(kind="post_norm_convolution")
    | (fields if kind == "block" else {}),
    mixer=dict(kind="disentangled_attention")
    | (fields if kind == "mixer" else {}),
  )
  table = dict(kind="disentangled") | (fields if kind == "position" else {})
  spec = tiny.model_spec(positions=table, layers=dict(layer=layer))
  with pytest.raises(UserError, match=reason):
    tiny.shapes(assembly.build(spec, vocab_size=tiny.VOCAB), tiny.batch())


def test_it_does_not_decode_with_kept_keys():
  table, mixer = parts("v2")
  ctx = shared(table)[0].replace(cache_length=8)
  with pytest.raises(UserError, match="cannot decode with kept keys"):
    tiny.shapes(mixer, given(), ctx)


@pytest.mark.parametrize(
  "position, mixer, reason",
  [
    ("none", "disentangled_attention", "reads relative_positions, which"),
    ("disentangled", "attention", "they would have no effect"),
  ],
)
def test_table_and_mixer_need_each_other(position, mixer, reason):
  spec = tiny.model_spec(
    positions=dict(kind=position),
    layers=dict(layer=tiny.layer(mixer=dict(kind=mixer))),
  )
  with pytest.raises(UserError, match=reason):
    assembly.build(spec, vocab_size=tiny.VOCAB)
