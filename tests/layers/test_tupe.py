"""Facts of TUPE (arXiv:2006.15595) and of the layout of its release."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.layers.mixers import mixers
from jaxlm.layers.positions import positions
from jaxlm.models import assembly
from tests import tiny

WIDTH, HEADS, LONGEST = 32, 4, 40


def build(**fields):
  common = dict(kind="tupe", heads=HEADS, width=WIDTH, max_length=LONGEST)
  return positions.build({**common, **fields})


def drawn(part):
  return tiny.fill(tiny.shapes(part, tiny.context(), method="prepare"))


def scores(part, variables, segments):
  """[batch, heads, length, length] that the part adds."""

  @jax.jit
  def run(variables):
    ctx = part.apply(variables, tiny.context(segments), method="prepare")
    index = jnp.arange(segments.shape[1])
    return ctx.bias.dense(index, index)

  return np.asarray(run(variables))


def one_document(length):
  return np.ones((1, length), np.int32)


def zeroed(variables, *names):
  params = dict(variables["params"])
  for name in names:
    params[name] = jax.tree.map(jnp.zeros_like, params[name])
  return {"params": params}


def released(params, length, buckets):
  """What guolinke/TUPE adds to its scores, [heads, length, length]."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  rows = params["table"][: length + 1]
  rows = rows - rows.mean(-1, keepdims=True)
  rows = rows / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
  norm = params["norm"]["norm"]
  rows = rows * norm["scale"] + norm["bias"]
  query, key = (
    (rows @ params[name]["kernel"] + params[name]["bias"]).reshape(
      length + 1, HEADS, -1
    )
    for name in ("query", "key")
  )
  every = np.einsum("ihd,jhd->hij", query, key)
  every /= np.sqrt(2 * WIDTH / HEADS)
  out = every[:, 1:, 1:].copy()  # row i + 1 is position i
  out[:, :, 0] = every[:, 1, 1][:, None]
  out[:, 0, :] = every[:, 0, 0][:, None]
  if buckets:
    place = [[bucket(j - i) for j in range(length)] for i in range(length)]
    place = np.array(place)
    place[:, 0] = buckets
    place[0, :] = buckets // 2
    out += np.moveaxis(params["relative"][place], -1, 0)
  return out


def bucket(distance):
  """The sheet's bucket of key - query, 32 buckets, distances to 128."""
  n, start = abs(distance), 16 if distance > 0 else 0
  if n < 8:
    return start + n
  return start + min(15, 8 + int(np.log(n / 8) / np.log(16) * 8))


def test_buckets_golden():
  golden = {0: 0, -1: 1, 1: 17, -7: 7, -8: 8, -15: 9, -16: 10, -64: 14}
  golden |= {-127: 15, -128: 15, 8: 24, 128: 31}
  assert {d: bucket(d) for d in golden} == golden


@pytest.mark.parametrize("buckets", [0, 32])
@pytest.mark.parametrize("length", [5, 37])
def test_scores_are_those_of_the_release(length, buckets):
  with jax.enable_x64(True):
    part = build(buckets=buckets, param_dtype=jnp.float64)
    variables = drawn(part)
    found = scores(part, variables, one_document(length))[0]
  expected = released(variables["params"], length, buckets)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("buckets", [0, 32])
def test_cls_has_scores_of_its_own_whatever_the_distance_and_length(buckets):
  part = build(buckets=buckets)
  variables = drawn(part)
  short, long = (scores(part, variables, one_document(n))[0] for n in (7, 33))
  for found in (short, long):
    for row, theta in (
      (found[:, 0, :], long[:, 0, 0]),
      (found[:, 1:, 0], long[:, 1, 0]),
    ):
      expected = np.broadcast_to(theta[:, None], row.shape)
      np.testing.assert_array_equal(row, expected)
  np.testing.assert_allclose(short, long[:, :7, :7], atol=1e-6)
  assert np.ptp(long[:, 1:, 1:], axis=-1).min() > 0.01  # others do differ
  assert np.abs(long[:, 0, 0] - long[:, 1, 0]).min() > 1e-4


def test_every_document_of_a_packed_row_counts_from_its_start():
  part = build(buckets=32)
  variables = drawn(part)
  alone = scores(part, variables, one_document(7))[0]
  packed = scores(part, variables, tiny.SEGMENTS)
  # rounding differs: distances are looked up in a longer row
  np.testing.assert_allclose(packed[0][:, 6:13, 6:13], alone, atol=1e-6)
  np.testing.assert_allclose(
    packed[1][:, 7:12, 7:12], alone[:, :5, :5], atol=1e-6
  )


def test_without_reset_and_projections_it_is_t5():
  part = build(buckets=32, reset=False)
  variables = zeroed(drawn(part), "query", "key")
  table = variables["params"]["relative"]
  assert table.shape == (32, HEADS)
  found = scores(part, variables, one_document(40))
  t5 = positions.build({"kind": "relative_buckets", "heads": HEADS})
  expected = scores(t5, {"params": {"table": table}}, one_document(40))
  np.testing.assert_array_equal(found, expected)


def test_without_positions_it_is_attention_at_temperature_root_2():
  part, mixer = build(), attention()
  variables = zeroed(drawn(part), "query", "key")
  ctx = part.apply(variables, tiny.context(), method="prepare")
  x = np.random.default_rng(0).standard_normal((2, tiny.LENGTH, WIDTH))
  x = jnp.asarray(x, jnp.float32)
  weights = tiny.fill(tiny.shapes(mixer, x, tiny.context()))
  # The same scores: queries narrower by sqrt(2).
  narrow = jax.tree.map(lambda leaf: leaf, weights)
  narrow["params"]["query"] = jax.tree.map(
    lambda leaf: leaf / np.sqrt(2), weights["params"]["query"]
  )
  found = mixer.apply(weights, x, ctx)
  np.testing.assert_allclose(
    found, mixer.apply(narrow, x, tiny.context()), atol=2e-5
  )
  assert np.abs(found - mixer.apply(weights, x, tiny.context())).max() > 0.05


def attention():
  spec = {"kind": "attention", "heads": HEADS, "width": WIDTH}
  return mixers.build(spec)


def test_scores_alone_tell_order():
  spec = tiny.model_spec(positions=dict(kind="tupe", max_length=LONGEST))
  model, variables = tiny.build(spec)
  inputs = tiny.batch(one_document(16))["inputs"]
  mixed = np.random.default_rng(1).permutation(16)
  run = jax.jit(lambda *given: model.apply(given[0], {"inputs": given[1]}))
  hidden = lambda *given: np.asarray(run(*given)["hidden"])
  untied = {"params": dict(variables["params"])}
  silent = zeroed({"params": variables["params"]["positions"]}, "query", "key")
  untied["params"]["positions"] = silent["params"]
  np.testing.assert_allclose(
    hidden(untied, inputs[:, mixed]),
    hidden(untied, inputs)[:, mixed],
    atol=1e-4,
  )
  moved = (
    hidden(variables, inputs[:, mixed]) - hidden(variables, inputs)[:, mixed]
  )
  assert np.abs(moved).max() > 0.1


def test_positions_are_computed_once_for_all_layers():
  counts = set()
  for depth in (1, 3):
    spec = tiny.model_spec(
      positions=dict(kind="tupe", max_length=LONGEST), depth=depth
    )
    model = assembly.build(spec, vocab_size=tiny.VOCAB)
    variables = tiny.fill(tiny.shapes(model, tiny.batch()))
    program = str(jax.make_jaxpr(model.apply)(variables, tiny.batch()))
    counts.add(program.count(f"f32[{LONGEST + 1},{WIDTH}]"))
  assert len(counts) == 1 and counts.pop() > 2


def test_what_does_not_fit_is_refused():
  ctx = tiny.context()
  for fields, reason in [
    (dict(heads=5), "heads=5 do not divide width=32"),
    (dict(buckets=30), "buckets=30"),
  ]:
    part = build(**fields)
    with pytest.raises(UserError, match=reason):
      tiny.shapes(part, ctx, method="prepare")
  with pytest.raises(UserError, match="cannot decode with kept keys"):
    tiny.shapes(build(), tiny.context(cache_length=8), method="prepare")
  assert build().longest() == LONGEST
