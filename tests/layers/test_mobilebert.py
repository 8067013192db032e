"""Facts of MobileBERT's parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths, recipe
from jaxlm.data import datasets
from jaxlm.errors import UserError
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.heads import heads
from jaxlm.layers.mixers import mixers
from jaxlm.layers.norms import norms
from jaxlm.models import assembly
from tests import tiny
from tests.contracts.cases import Case, blocks
from tests.test_recipes import shapes

IDS = tiny.batch()["inputs"]
X = jnp.asarray(
  np.random.default_rng(0).standard_normal((tiny.BATCH, tiny.LENGTH, 32)),
  jnp.float32,
)


def trigram(**fields):
  """(part, parameters) with a table of 8 columns."""
  part = embeddings.build(
    {"kind": "trigram", "table_width": 8, **fields}, vocab_size=64, width=32
  )
  params = tiny.shapes(part, IDS, None, tiny.context(), method="lookup")
  return part, tiny.fill(params)


def look(part, params, types=None, ctx=None):
  """Rows of IDS."""
  ctx = ctx or tiny.context()
  run = lambda p: part.apply(p, IDS, types, ctx, method="lookup")
  return jax.jit(run)(params)


@pytest.mark.parametrize(
  "variant, count",
  [("base", 24_581_888), ("small", 15_485_696), ("teacher", 294_205_184)],
)
def test_published_parameters_without_heads(variant, count):
  params = shapes("mobilebert", variant)
  body = {k: v for k, v in params.items() if not k.startswith("heads_")}
  assert paths.count(body) == count


def test_a_fresh_no_norm_is_the_identity():
  part = norms.build({"kind": "no_norm"})
  fresh = tiny.fill(tiny.shapes(part, X), scale=0.0)
  np.testing.assert_array_equal(jax.jit(part.apply)(fresh, X), X)


def test_a_no_norm_folds_into_the_map_before_it():
  part = norms.build({"kind": "no_norm"})
  params = tiny.fill(tiny.shapes(part, X))
  scale, bias = (np.asarray(params["params"][k]) for k in ("scale", "bias"))
  rng = np.random.default_rng(1)
  kernel, shift = rng.standard_normal((32, 32)), rng.standard_normal(32)
  after = jax.jit(part.apply)(
    params, jnp.asarray(np.asarray(X) @ kernel + shift)
  )
  folded = np.asarray(X) @ (kernel * scale) + (shift * scale + bias)
  np.testing.assert_allclose(after, folded, atol=1e-4)


@pytest.mark.parametrize("parity", [True, False])
def test_a_trigram_is_a_convolution_of_three_taps(parity):
  """Taps at the next, this and the previous token; 0 over a border."""
  part, params = trigram(parity=parity)
  p = tiny.host(params["params"])
  rows, taps = p["table"][IDS], p["projection"]["kernel"].reshape(3, 8, 32)
  segments = np.ones_like(tiny.SEGMENTS) if parity else tiny.SEGMENTS
  expected = np.zeros((*IDS.shape, 32)) + p["projection"]["bias"]
  for row, i in np.ndindex(IDS.shape):
    for tap, j in zip(taps, (i + 1, i, i - 1), strict=True):
      inside = 0 <= j < IDS.shape[1]
      if inside and segments[row, j] == segments[row, i]:
        expected[row, i] += rows[row, j] @ tap
  out = look(part, params)
  np.testing.assert_allclose(tiny.real(out), tiny.real(expected), atol=1e-5)


def test_sentence_types_have_the_width_of_the_model():
  part, params = trigram(types=2)
  assert params["params"]["type_table"].shape == (2, 32)
  difference = np.asarray(look(part, params, 1 + 0 * IDS) - look(part, params))
  table = np.asarray(params["params"]["type_table"])
  np.testing.assert_allclose(
    difference, np.broadcast_to(table[1] - table[0], X.shape), atol=1e-5
  )


def test_released_trigrams_are_refused_on_packed_rows():
  def model(parity):
    kind = dict(kind="trigram", table_width=8, parity=parity)
    return assembly.build(tiny.model_spec(embeddings=kind))

  packed = datasets.build({"kind": "packed", "files": "x.txt"})
  recipe.check_packing(model(False), packed)
  with pytest.raises(UserError, match="TrigramEmbeddings cannot read several"):
    recipe.check_packing(model(True), packed)


def test_a_decoder_cannot_read_the_next_token():
  spec = tiny.model_spec(
    kind="decoder",
    embeddings=dict(kind="trigram", table_width=8),
    layers=dict(layer=tiny.layer(mixer=dict(causal=True))),
  )
  with pytest.raises(UserError, match="'trigram', which reads the next token"):
    assembly.build(spec)
  part, params = trigram()
  ctx = tiny.context(cache_length=20)
  with pytest.raises(UserError, match="reads the next token"):
    look(part, params, ctx=ctx)


def test_values_may_come_from_elsewhere():
  part = mixers.build({"kind": "attention", "heads": 4}, width=32)
  ctx, wide = tiny.context(), jnp.concatenate([X, -X], -1)
  params = tiny.fill(tiny.shapes(part, X, ctx, values=wide))
  assert params["params"]["value"]["kernel"].shape == (64, 32)
  # Half of the channels undo the other half: only the bias is left.
  flat = paths.flatten(params)
  half = flat["params/value/kernel"][:32]
  flat["params/value/kernel"] = jnp.concatenate([half, half])
  out = jax.jit(part.apply)(paths.unflatten(flat), X, ctx, values=wide)
  p = tiny.host(params["params"])
  constant = p["value"]["bias"] @ p["output"]["kernel"] + p["output"]["bias"]
  np.testing.assert_allclose(
    tiny.real(out), np.broadcast_to(constant, tiny.real(out).shape), atol=1e-4
  )


@pytest.mark.parametrize("reads", ["shared", "bottleneck", "stream"])
def test_a_bottleneck_is_its_formula(reads):
  """Attention that is silenced, so all that is left is per token."""
  fields = (("attention_input", reads), ("feedforwards", 3))
  module = Case(blocks, "bottleneck", fields).module()
  flat = paths.flatten(tiny.fill(tiny.shapes(module, X, tiny.context())))
  silent = "params/part/mixer/output"
  for name in ("kernel", "bias"):
    flat[f"{silent}/{name}"] = 0 * flat[f"{silent}/{name}"]
  out = jax.jit(module.apply)(paths.unflatten(flat), X, tiny.context())
  p = paths.unflatten(tiny.host(flat))["params"]["part"]

  dense = lambda x, at: x @ at["kernel"] + at["bias"]
  r = _norm(dense(np.asarray(X), p["input"]), p["input_norm"])
  a = _norm(r, p["mixer_norm"])
  for j in range(3):
    inside = p[f"inner_feedforwards_{j}"]
    h = _gelu(dense(a, inside["input"]))
    a = _norm(dense(h, inside["output"]) + a, p[f"feedforward_norms_{j}"])
  y = _norm(dense(a, p["output"]) + np.asarray(X), p["output_norm"])
  np.testing.assert_allclose(out, y, atol=1e-4)
  assert ("shared" in p) == (reads == "shared")


def _gelu(x):
  from scipy import special

  return x * 0.5 * (1 + special.erf(x / np.sqrt(2)))


def _norm(x, at):
  centered = x - x.mean(-1, keepdims=True)
  scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-12)
  return scaled * at["norm"]["scale"] + at["norm"]["bias"]


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(attention_input="shard"), "Did you mean 'shared'"),
    (dict(feedforwards=0), "feedforwards is 0"),
  ],
)
def test_bottlenecks_that_cannot_be_are_told(fields, words):
  module = Case(blocks, "bottleneck", tuple(fields.items())).module()
  with pytest.raises(UserError, match=words):
    tiny.shapes(module, X, tiny.context())


def test_a_mixer_with_one_input_takes_the_bottleneck_alone():
  class Copies(Case(blocks, "post_norm").part().mixer.__class__):
    separate_values = False

  mixer = Copies(heads=4, width=32)
  module = Case(blocks, "bottleneck").module(mixer=mixer)
  with pytest.raises(UserError, match="a Copies does not take"):
    tiny.shapes(module, X, tiny.context())
  alone = Case(blocks, "bottleneck", (("attention_input", "bottleneck"),))
  tiny.shapes(alone.module(mixer=mixer), X, tiny.context())


def test_an_output_matrix_stands_beside_the_table():
  """logits = t [E ; W]^T + b with E tied and W the head's own."""
  table = embeddings.build({"kind": "token"}, vocab_size=20, width=12)
  bound = table.bind(tiny.fill(tiny.shapes(table, IDS, method="lookup")))
  head = heads.build(
    {"kind": "masked_lm", "untied": 20}, norm={"kind": "layer_norm"}
  )
  args = (X, {}, bound, tiny.context())
  params = tiny.fill(tiny.shapes(head, *args))
  p = tiny.host(params["params"])
  assert p["output_table"].shape == (20, 20)
  assert p["transform"]["kernel"].shape == (32, 32)
  x = np.asarray(X) @ p["transform"]["kernel"] + p["transform"]["bias"]
  t = _norm(_gelu(x), p["norm"])
  whole = np.concatenate([np.asarray(bound.table), p["output_table"]], -1)
  np.testing.assert_allclose(
    jax.jit(lambda p: head.apply(p, *args))(params),
    t @ whole.T + p["output_bias"],
    atol=1e-3,
  )
