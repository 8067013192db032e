"""Encoder-decoders: what reads what, and illegal towers."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors
from jaxlm.models import assembly
from tests import tiny

SOURCE, TARGET = tiny.LENGTH, 12
# Documents of the source rows in shorter target rows, with padding.
TARGET_SEGMENTS = np.array(
  [[1] * 4 + [2] * 5 + [0] * 3, [1] * 3 + [2] * 4 + [3] * 3 + [0] * 2],
  np.int32,
)
NAMES = ("t5", "bart")


@functools.cache
def built(name):
  spec = tiny.config_model(name)
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  batch = pairs()
  return model, tiny.fill(tiny.shapes(model, batch)), batch


def pairs(seed=0):
  """Packed rows of pairs of texts."""
  rng = np.random.default_rng(seed)
  source = tiny.batch(seed=seed)
  tokens = rng.integers(1, tiny.VOCAB, TARGET_SEGMENTS.shape)
  return {
    **{k: source[k] for k in ("inputs", "segments", "positions")},
    "decoder_inputs": np.where(TARGET_SEGMENTS, tokens, 0).astype(np.int32),
    "decoder_segments": TARGET_SEGMENTS,
    "decoder_positions": tiny.positions(TARGET_SEGMENTS),
  }


def run(name, batch):
  model, params, _ = built(name)
  return jax.jit(model.apply)(params, batch)


@pytest.mark.parametrize("name", NAMES)
def test_packed_pairs_equal_pairs_in_rows_of_their_own(name):
  batch = pairs()
  packed = run(name, batch)
  row, segment = 1, 2
  alone = {}
  for side, of in (("", SOURCE), ("decoder_", TARGET)):
    here = batch[f"{side}segments"][row] == segment
    count = int(here.sum())
    tokens = np.zeros((2, of), np.int32)
    tokens[:, :count] = batch[f"{side}inputs"][row][here]
    real = np.zeros((2, of), np.int32)
    real[:, :count] = 1
    alone |= {f"{side}inputs": tokens, f"{side}segments": real}
    alone[f"{side}positions"] = tiny.positions(real)
  found = run(name, alone)
  here = TARGET_SEGMENTS[row] == segment
  for key in ("hidden", "seq2seq_lm"):
    np.testing.assert_allclose(
      found[key][0, : here.sum()], packed[key][row][here], atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_targets_see_their_own_source_and_their_own_past(name):
  batch = pairs()
  before = run(name, batch)["hidden"]
  other = copy.deepcopy(batch)
  second = batch["segments"] == 2
  other["inputs"][second] = batch["inputs"][second] % (tiny.VOCAB - 1) + 1
  other["inputs"][batch["segments"] == 0] = 7
  change = np.abs(np.asarray(run(name, other)["hidden"] - before)).max(-1)
  assert change[TARGET_SEGMENTS == 2].min() > 1e-3
  assert change[(TARGET_SEGMENTS > 0) & (TARGET_SEGMENTS != 2)].max() < 1e-5
  later = copy.deepcopy(batch)
  later["decoder_inputs"][0, 2] = batch["decoder_inputs"][0, 2] % 63 + 1
  change = np.abs(np.asarray(run(name, later)["hidden"] - before)).max(-1)
  assert change[0, :2].max() == 0.0 and change[0, 2:4].min() > 1e-3
  assert change[0, 4:9].max() < 1e-5


def test_without_targets_the_decoder_reads_the_source():
  model, params, batch = built("bart")
  source = {k: batch[k] for k in ("inputs", "segments", "positions")}
  both = {**source, **{f"decoder_{k}": v for k, v in source.items()}}
  # Operation by operation: XLA may fuse two programs in different ways.
  np.testing.assert_array_equal(
    model.apply(params, source)["hidden"], model.apply(params, both)["hidden"]
  )


def test_one_token_table_serves_both_sides_and_the_output():
  model, params, batch = built("t5")

  def loss(params):
    return jnp.sum(jnp.sin(model.apply(params, batch)["seq2seq_lm"][:, 0]))

  tables = [p for p in params["params"]["embeddings"]]
  assert tables == ["table"]
  gradient = jax.jit(jax.grad(loss))(params)["params"]["embeddings"]["table"]
  assert np.abs(gradient).max(-1).min() > 0  # each is a candidate


def test_t5_output_is_scaled_and_v1_1_has_its_own():
  old, new = (tiny.config_model("t5", v) for v in ("tiny", "tiny_v1_1"))
  assert old["heads"]["seq2seq_lm"]["scaled"]
  model = assembly.build(new, vocab_size=tiny.VOCAB)
  params = tiny.fill(tiny.shapes(model, pairs()))
  assert params["params"]["heads_seq2seq_lm"]["table"].shape == (512, 64)
  made = jax.jit(model.apply)(params, pairs())
  expected = np.einsum(
    "btd,vd->btv", made["hidden"], params["params"]["heads_seq2seq_lm"]["table"]
  )
  np.testing.assert_allclose(made["seq2seq_lm"], expected, rtol=1e-4, atol=1e-4)


def test_scaled_embeddings_multiply_by_the_root_of_the_width():
  spec = tiny.config_model("bart") | dict(embeddings=dict(kind="scaled_token"))
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  plain, params, batch = built("bart")
  table = params["params"]["embeddings"]["table"]
  lifted = {**params["params"], "embeddings": {"table": table * 8.0}}
  np.testing.assert_allclose(
    jax.jit(model.apply)(params, batch)["hidden"],
    jax.jit(plain.apply)({"params": lifted}, batch)["hidden"],
    rtol=1e-4,
    atol=1e-4,
  )


def changed(path, value):
  spec = tiny.config_model("t5")
  *parents, last = path.split("/")
  node = spec
  for key in parents:
    node = node[key]
  if value is None:
    del node[last]
  else:
    node[last] = value
  return spec


@pytest.mark.parametrize(
  ("path", "value", "words"),
  [
    ("towers/encoder", None, "has the towers decoder and encoder"),
    ("towers/encoder/kind", "decoder", "expected 'encoder'"),
    ("towers/decoder/width", 32, "both towers read one token table"),
    ("towers/decoder/heads", {"a": {}}, "belong to the whole model"),
    ("towers/decoder/layers/layer/cross", None, "none reads the encoder"),
    ("positions", {"kind": "none"}, "has no key 'positions'"),
    ("width", None, "has no 'width'"),
    (
      "towers/encoder/layers/layer/cross",
      {"kind": "cross_attention", "heads": 4},
      "blocks that do: post_norm_cross, pre_norm_cross",
    ),
    ("towers/decoder/layers/layer/mixer/causal", False, "is not causal"),
  ],
)
def test_what_does_not_fit_is_told(path, value, words):
  with pytest.raises(errors.UserError, match=words):
    assembly.build(changed(path, value), vocab_size=tiny.VOCAB)


def test_cross_attention_without_an_encoder_is_told():
  layer = tiny.layer(mixer=dict(kind="cross_attention"))
  model = assembly.build(tiny.model_spec(layers=dict(layer=layer)))
  with pytest.raises(errors.UserError, match="no encoder to read"):
    tiny.shapes(model, tiny.batch())
