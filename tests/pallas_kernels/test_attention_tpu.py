"""Attention in Pallas Mosaic TPU, interpreted, against the float64 oracle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from pallas_kernels import _platform
from pallas_kernels.flash_attention import masks, mosaic_tpu, reference
from pallas_kernels.flash_attention.mosaic_tpu import calls, skew
from pallas_kernels.flash_attention.operands import Operands, Static
from tests.pallas_kernels.attention_contract import AttentionContract

BLOCKS = mosaic_tpu.Blocks(32, 32, 32, 32)


class TestMosaicTpu(AttentionContract):
  """Everything, on any device, by Pallas' interpreter."""

  implementation = "mosaic_tpu:interpret"


def operands(length=64, heads=2, head_dim=8, dtype=jnp.float32, **others):
  rng = np.random.default_rng(0)
  draw = lambda: jnp.asarray(
    rng.standard_normal((1, length, heads, head_dim)), dtype
  )
  return Operands(query=draw(), key=draw(), value=draw(), **others)


def gradients(static, given):
  """Of a sum of squares, by every floating array."""
  leaves, tree = jax.tree.flatten(given)
  floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]

  def loss(some):
    some = iter(some)
    whole = [next(some) if f else x for f, x in zip(floating, leaves)]
    out = mosaic_tpu.attend(static, jax.tree.unflatten(tree, whole))
    return jnp.sum(out**2)

  some = [x for f, x in zip(floating, leaves) if f]
  return jax.jit(jax.value_and_grad(loss))(some)


def packed(length):
  """[1, length] int32: documents of 40, 3 and 12, then padding."""
  ids = np.repeat([1, 2, 3, 0], [40, 3, 12, length - 55])
  return jnp.asarray(ids[None], jnp.int32)


@pytest.mark.slow
def test_memory_that_starts_as_nan_and_races_are_simulated():
  # Skipped tiles, and every sum over an axis of the grid.
  length, rng = 60, np.random.default_rng(1)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  given = operands(
    length=length,
    query_segments=packed(length),
    key_segments=packed(length),
    slopes=jnp.asarray([0.5, 0.1]),
    dense=draw(1, 1, length, length),
    p2c=draw(1, length, 2, 5),
    p2c_buckets=jnp.asarray(rng.integers(0, 5, 2 * length - 1), jnp.int32),
  )
  static = Static(causal=True, blocks=BLOCKS, interpret=True)
  expected = gradients(static, given)
  simulated = pltpu.InterpretParams(detect_races=True)
  found = gradients(dataclasses.replace(static, interpret=simulated), given)
  for there, here in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
    np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)
  # Where jax tells: its own state of the last simulated kernel.
  assert not _races()


def _races() -> bool:
  from jax._src.pallas.mosaic.interpret import interpret_pallas_call

  found = interpret_pallas_call.races
  return bool(found is not None and found.races_found)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (32, 16), (128, 256)])
def test_skew_and_its_transpose(rows, columns):
  rng = np.random.default_rng(0)
  strip = rng.integers(-99, 99, (1, rows + columns)).astype(np.float32)
  tile = rng.integers(-99, 99, (rows, columns)).astype(np.float32)
  place = np.arange(columns)[None, :] - np.arange(rows)[:, None] + rows
  skewed = jax.jit(skew.skew, static_argnums=1)(strip, rows)
  np.testing.assert_array_equal(skewed, strip[0][place])
  sums = np.zeros(rows + columns, np.float32)
  np.add.at(sums, place, tile)
  np.testing.assert_array_equal(jax.jit(skew.diagonal_sums)(tile)[0], sums)


def test_lookup_across_groups_of_lanes():
  rng = np.random.default_rng(0)
  table = rng.standard_normal((16, 384)).astype(np.float32)
  index = rng.integers(0, 384, (16, 256)).astype(np.int32)
  np.testing.assert_array_equal(
    jax.jit(skew.lookup)(table, index), np.take_along_axis(table, index, 1)
  )


def test_skipped_blocks_are_not_read():
  ids = np.repeat([[1, 2]], [50, 78], axis=1).astype(np.int32)
  ranges = masks.key_ranges(
    batch=1,
    queries=128,
    keys=128,
    block_q=32,
    block_k=32,
    query_segments=ids,
    key_segments=ids,
    causal=True,
  )
  plan = calls.Schedule(4, 4, ranges.reshape(-1))
  read = [
    [int(plan.block(plan.prefetch, 0, q, step)) for step in range(4)]
    for q in range(4)
  ]
  assert read == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 2, 2, 2], [1, 2, 3, 3]]
  seen = [
    [tuple(map(bool, plan.visited(plan.prefetch, 0, q, n))) for n in range(4)]
    for q in range(4)
  ]
  assert [sum(v for v, _ in row) for row in seen] == [1, 2, 2, 3]
  # Only the block of the second document's keys before its last queries.
  assert [(q, n) for q in range(4) for n in range(4) if all(seen[q][n])] == [
    (3, 1)
  ]


def test_plain_attention_holds_nothing_of_the_rest():
  given = operands(length=64)
  static = Static(interpret=True, blocks=BLOCKS)
  text = str(jax.make_jaxpr(lambda x: gradients(static, x))(given))
  assert "dot_general" in text
  for primitive in ("iota", "roll", "tanh", "gather", "shift_right", "rem"):
    assert f"{primitive}[" not in text, primitive


def test_more_channels_than_lanes():
  given = operands(length=40, heads=1, head_dim=256)
  static = Static(scale=1 / 16, interpret=True, blocks=BLOCKS)
  out = mosaic_tpu.attend(static, given)
  expected = reference.attention(
    given.query,
    given.key,
    given.value,
    bias=None,
    query_segments=None,
    key_segments=None,
    query_offset=0,
    causal=False,
    window=None,
    scale=1 / 16,
    soft_cap=None,
    dropout_rate=0.0,
    dropout_key=None,
  )
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_refusals(monkeypatch):
  given = operands(length=8)
  with pytest.raises(NotImplementedError, match="not float16"):
    half = operands(length=8, dtype=jnp.float16)
    mosaic_tpu.attend(Static(interpret=True), half)
  with pytest.raises(NotImplementedError, match="one dtype, not bfloat16, fl"):
    mixed = dataclasses.replace(given, key=given.key.astype(jnp.bfloat16))
    mosaic_tpu.attend(Static(interpret=True), mixed)
  with pytest.raises(NotImplementedError, match="on TPUs, not on cpu"):
    mosaic_tpu.attend(Static(), given)
  older = _platform.device("tpu", "TPU v4")
  monkeypatch.setattr(_platform, "target", lambda tree: older)
  with pytest.raises(NotImplementedError, match="toeplitz on TPU v4"):
    table = jnp.zeros((2, 15), jnp.float32)
    mosaic_tpu.attend(Static(), dataclasses.replace(given, toeplitz=table))


def test_rows_that_do_not_fit_are_refused():
  static = Static(interpret=True, blocks=mosaic_tpu.Blocks())
  whole = jax.ShapeDtypeStruct((1, 131072, 1, 128), jnp.bfloat16)

  def loss(array):
    return mosaic_tpu.attend(static, Operands(array, array, array)).sum()

  assert jax.eval_shape(loss, whole).shape == ()
  with pytest.raises(NotImplementedError, match="rows are too long"):
    jax.eval_shape(jax.grad(loss), whole)
