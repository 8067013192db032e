"""Facts of the token tables."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import paths
from jaxlm.layers.embeddings import embeddings
from tests import tiny

IDS = jnp.asarray(tiny.batch()["inputs"])


def build(kind="token", **fields):
  fields = dict(vocab_size=50, width=32) | fields
  return embeddings.build({"kind": kind, **fields})


def test_the_output_is_tied_to_the_input():
  part = build()
  params = tiny.fill(tiny.shapes(part, IDS, method="lookup"))
  table = np.asarray(params["params"]["table"])
  x = part.apply(params, IDS % 50, method="lookup")
  np.testing.assert_array_equal(x, table[IDS % 50])
  logits = part.apply(params, x, method="attend")
  np.testing.assert_allclose(logits, np.asarray(x) @ table.T, atol=1e-4)


def test_rows_that_pad_the_table_are_never_predicted():
  """MosaicBERT: 30,522 rows become 30,528; here 50 become 64."""
  part = build(pad_to_multiple=64)
  params = tiny.fill(tiny.shapes(part, IDS, method="lookup"))
  assert params["params"]["table"].shape == (64, 32)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 32)) * 10)

  def log_probabilities(params):
    logits = part.apply(params, x, method="attend")
    return jax.nn.log_softmax(logits)[..., :50].sum(), logits

  gradient, logits = jax.grad(log_probabilities, has_aux=True)(params)
  assert np.isfinite(np.asarray(logits)).all()
  probabilities = np.asarray(jax.nn.softmax(logits))
  assert probabilities[..., 50:].max() == 0.0
  np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-5)
  gradient = np.asarray(gradient["params"]["table"])
  assert (
    np.abs(gradient[50:]).max() == 0.0 < np.abs(gradient[:50]).min(-1).max()
  )
  assert build(vocab_size=128, pad_to_multiple=64).apply(
    {"params": {"table": jnp.ones((128, 32))}}, x, method="attend"
  ).shape == (2, 3, 128)


def test_sentence_types_are_added_and_default_to_the_first():
  part = build(types=2)
  params = tiny.fill(tiny.shapes(part, IDS, method="lookup"))
  tables = params["params"]
  types = jnp.asarray(tiny.batch()["types"])
  x = part.apply(params, IDS % 50, types, method="lookup")
  expected = np.asarray(tables["table"])[IDS % 50]
  expected = expected + np.asarray(tables["type_table"])[types]
  np.testing.assert_allclose(x, expected, atol=1e-6)
  np.testing.assert_allclose(
    part.apply(params, IDS, method="lookup"),
    part.apply(params, IDS, 0 * types, method="lookup"),
  )


def test_factorized_tables_are_as_small_as_the_paper_says():
  """ALBERT: V * E + E * H in place of V * H (section 3.1)."""
  part = build("factorized", vocab_size=30_000, width=768, table_width=128)
  run = lambda p, ids: p.project(p.lookup(ids))
  shapes = tiny.shapes(part, IDS, method=run)
  assert paths.count(shapes) == 30_000 * 128 + 128 * 768 + 768
  assert part.features == 128


def test_gradients_of_a_row_are_summed_in_float32():
  """4,000 gradients of 1: a sum kept in bfloat16 would stop at 256."""
  part = build(types=2, dtype=jnp.bfloat16)
  params = tiny.fill(tiny.shapes(part, IDS, method="lookup"))
  ids = jnp.full((4, 1000), 3)

  def total(params):
    x = part.apply(params, ids, method="lookup")
    return jnp.sum(x.astype(jnp.float32))

  gradient = jax.grad(total)(params)["params"]
  np.testing.assert_array_equal(gradient["table"][3], 4000.0)
  np.testing.assert_array_equal(gradient["type_table"][0], 4000.0)
