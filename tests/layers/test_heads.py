"""Facts of the heads."""

import jax.numpy as jnp
import numpy as np

from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.heads import heads
from tests import tiny

HIDDEN = jnp.asarray(
  np.random.default_rng(0).standard_normal((tiny.BATCH, tiny.LENGTH, 32)),
  jnp.float32,
)
TABLE = embeddings.build({"kind": "token"}, vocab_size=tiny.VOCAB, width=32)
LOOKED = tiny.fill(tiny.shapes(TABLE, HIDDEN, method="attend"))


def run(kind, batch, **fields):
  """(output, parameters) of a head."""
  spec = {"kind": kind, **heads.entry(kind).example, **fields}
  head = heads.build(spec, norm={"kind": "layer_norm"})
  table = TABLE.bind(LOOKED)
  params = tiny.fill(tiny.shapes(head, HIDDEN, batch, table, tiny.context()))
  out = head.apply(params, HIDDEN, batch, table, tiny.context())
  return out, tiny.host(params)


def test_sparse_predictions_are_those_of_the_dense_head():
  places = tiny.batch()["predict_positions"]
  sparse, _ = run("masked_lm", {"predict_positions": places})
  dense, _ = run("masked_lm", {})
  assert sparse.shape == (2, 3, tiny.VOCAB)
  assert dense.shape == (2, tiny.LENGTH, tiny.VOCAB)
  rows = np.arange(2)[:, None]
  np.testing.assert_allclose(sparse, np.asarray(dense)[rows, places], atol=1e-5)


def test_masked_lm_transform_is_of_the_width_of_the_table():
  """A factorized table is narrower than the model (ALBERT)."""
  narrow = embeddings.build(
    {"kind": "factorized", "table_width": 8}, vocab_size=40, width=32
  )
  table = narrow.bind(
    tiny.fill(tiny.shapes(narrow, jnp.zeros((1, 8)), method="attend"))
  )
  head = heads.build({"kind": "masked_lm"}, norm={"kind": "layer_norm"})
  shapes = tiny.shapes(head, HIDDEN, {}, table, tiny.context())
  params = tiny.fill(shapes)["params"]
  assert params["transform"]["kernel"].shape == (32, 8)
  assert params["output_bias"].shape == (40,)


def test_sentence_heads_read_where_they_are_told_or_first():
  places = tiny.batch()["cls_positions"]
  told, params = run("classify", {"cls_positions": places})
  first, _ = run("classify", {})
  assert told.shape == (2, 2, 3) and first.shape == (2, 1, 3)
  np.testing.assert_allclose(told[:, :1], first, atol=1e-6)
  p = params["params"]
  pooled = np.tanh(
    np.asarray(HIDDEN)[:, 6] @ p["pooler"]["kernel"] + p["pooler"]["bias"]
  )
  expected = pooled @ p["output"]["kernel"] + p["output"]["bias"]
  np.testing.assert_allclose(told[:, 1], expected, atol=1e-5)


def test_a_head_without_pooler_is_one_map():
  out, params = run("regress", {}, pooler=False)
  p = params["params"]
  assert set(p) == {"output"} and out.shape == (2, 1, 1)
  expected = np.asarray(HIDDEN)[:, 0] @ p["output"]["kernel"]
  np.testing.assert_allclose(
    out[:, 0], expected + p["output"]["bias"], atol=1e-5
  )


def test_tagging_reads_every_token():
  out, params = run("tag", {})
  p = params["params"]["output"]
  expected = np.asarray(HIDDEN) @ p["kernel"] + p["bias"]
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_the_causal_head_has_no_parameters_of_its_own():
  out, params = run("causal_lm", {})
  assert params == {}
  table = np.asarray(LOOKED["params"]["table"])
  np.testing.assert_allclose(out, np.asarray(HIDDEN) @ table.T, atol=1e-4)
