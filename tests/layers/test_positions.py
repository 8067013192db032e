"""Facts of the position methods."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.layers.positions import positions
from pallas_kernels.flash_attention import bias
from tests import tiny


def build(kind, **fields):
  return positions.build({"kind": kind, **fields})


def turned(ctx, theta=10_000.0, head_dim=8, seed=0):
  """A query and a key, each the same at every place, turned."""
  rng = np.random.default_rng(seed)
  shape = (tiny.BATCH, tiny.LENGTH, 1, head_dim)
  query, key = (
    jnp.broadcast_to(jnp.asarray(rng.standard_normal(head_dim)), shape)
    for _ in range(2)
  )
  return build("rotary", theta=theta).at_query_key(query, key, ctx), query


def test_rotary_keeps_norms_and_turns_nothing_at_position_0():
  (query, _), before = turned(tiny.context())
  norm = lambda x: np.linalg.norm(np.asarray(x), axis=-1)
  np.testing.assert_allclose(norm(query), norm(before), rtol=1e-5)
  first = tiny.positions(tiny.SEGMENTS) == 0
  np.testing.assert_array_equal(
    np.asarray(query)[first], np.asarray(before)[first]
  )


def test_rotary_scores_depend_on_the_distance_alone():
  ones = np.ones_like(tiny.SEGMENTS)
  ctx = tiny.context(ones)
  (query, key), _ = turned(ctx)
  scores = np.einsum("blhd,bmhd->blm", query, key)
  for distance in range(-7, 8):
    diagonal = np.diagonal(scores[0], distance)
    np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
  assert abs(scores[0, 0, 1] - scores[0, 0, 3]) > 1e-2
  moved = ctx.replace(positions=ctx.positions + 1000)
  (query, key), _ = turned(moved)
  np.testing.assert_allclose(
    np.einsum("blhd,bmhd->blm", query, key), scores, atol=2e-3
  )


def test_rotary_turns_halves_by_the_papers_angles():
  ones = np.ones_like(tiny.SEGMENTS)
  (query, _), before = turned(tiny.context(ones), theta=100.0)
  before = np.asarray(before[0, 0, 0])
  for place in (1, 5):
    for i in range(4):
      angle = place * 100.0 ** (-2 * i / 8)
      a, b = before[i], before[i + 4]
      expected = [
        a * np.cos(angle) - b * np.sin(angle),
        b * np.cos(angle) + a * np.sin(angle),
      ]
      found = np.asarray(query[0, place, 0])[[i, i + 4]]
      np.testing.assert_allclose(found, expected, atol=1e-5)


def test_learned_rows_start_after_the_offset():
  """RoBERTa: a table of 514 rows, position 0 reads row 2."""
  part = build("learned", max_length=512, offset=2)
  x, ctx = jnp.zeros((tiny.BATCH, tiny.LENGTH, 4)), tiny.context()
  table = np.arange(514 * 4, dtype=np.float32).reshape(514, 4)
  out = part.apply({"params": {"table": table}}, x, ctx, method="at_input")
  np.testing.assert_array_equal(out, table[np.asarray(ctx.positions) + 2])
  shapes = tiny.shapes(part, x, ctx, method="at_input")
  assert shapes["params"]["table"].value.shape == (514, 4)
  assert part.longest() == 512


@pytest.mark.parametrize("kind", positions.kinds())
def test_tables_of_rows_end_and_the_others_reach_any_length(kind):
  example = positions.entry(kind).example
  assert build(kind, **example).longest() == example.get("max_length")


def test_sinusoids_are_the_papers():
  part, ctx = build("sinusoidal"), tiny.context()
  out = np.asarray(part.at_input(jnp.zeros((tiny.BATCH, tiny.LENGTH, 8)), ctx))
  for place in (0, 3, 5):
    for i in range(4):
      angle = place / 10_000 ** (2 * i / 8)
      np.testing.assert_allclose(
        out[0, place, [i, i + 4]], [np.sin(angle), np.cos(angle)], atol=1e-6
      )


def test_biases_are_made_once_for_all_layers():
  ctx = build("alibi", heads=4).prepare(tiny.context())
  assert isinstance(ctx.bias, bias.Alibi)
  np.testing.assert_array_equal(ctx.bias.slopes, bias.alibi_slopes(4))
  table = jnp.ones((32, 4))
  both = build("relative_buckets", heads=4).apply(
    {"params": {"table": table}}, ctx, method="prepare"
  )
  assert isinstance(both.bias, bias.Sum)
  assert [type(t).__name__ for t in both.bias.terms] == ["Alibi", "Buckets"]
