"""NarrowBERT: both forms against whole rows and against BERT."""

import functools

import jax
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.interop import NotExportable, planning
from jaxlm.models import assembly
from tests import tiny
from tests.models.test_visible import gradients, on_meshes
from tests.models.test_visible_cost import (
  HEAD,
  LAYER,
  LENGTH,
  MATRICES,
  ROWS,
  WIDTH,
  flops,
  predictions,
  task,
)

FIRST = pytest.param("tiny_context_first", marks=pytest.mark.slow)
VARIANTS = ("tiny", "tiny_context_first")
variants = pytest.mark.parametrize("variant", ["tiny", FIRST])
PLACES = np.array([[1, 4, 7, 0], [2, 9, 11, 0]], np.int32)
WEIGHTS = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], np.float32)


def spec(variant="tiny", depth=None):
  """As shipped, or with so many late layers, unrolled."""
  made = tiny.config_model("narrowbert", variant)
  late = made["towers"]["narrow"] if "towers" in made else made
  late["depth"] = depth or late["depth"]
  for tower in assembly.towers(made).values():
    if depth:
      tower["stack"] = dict(kind="sequential")
  heads = made["heads"] | dict(classify=dict(kind="classify", classes=3))
  return made | dict(heads=heads)


def batch(**changes):
  made = tiny.batch() | dict(predict_positions=PLACES, predict_weights=WEIGHTS)
  return {k: v for k, v in (made | changes).items() if v is not None}


@functools.cache
def built(variant="tiny", depth=None):
  return tiny.build(spec(variant, depth))


@functools.cache
def compiled(variant="tiny", depth=None):
  return jax.jit(built(variant, depth)[0].apply)


def run(variant="tiny", depth=None, **changes):
  variables = built(variant, depth)[1]
  return tiny.host(compiled(variant, depth)(variables, batch(**changes)))


def at(x, places):
  return np.take_along_axis(x, places[..., None], axis=1)


@variants
def test_few_places_give_what_whole_rows_give_there(variant):
  """No place asks what another one gave: the closed form of both."""
  few, whole = run(variant), run(variant, predict_positions=None)
  assert few["masked_lm"].shape == (2, 4, tiny.VOCAB)
  assert whole["masked_lm"].shape == (2, tiny.LENGTH, tiny.VOCAB)
  expected = at(whole["masked_lm"], PLACES)[:, :3]
  np.testing.assert_allclose(few["masked_lm"][:, :3], expected, atol=2e-5)
  np.testing.assert_allclose(few["classify"], whole["classify"], atol=2e-5)
  read = np.concatenate([PLACES[:, :3], tiny.batch()["cls_positions"]], axis=1)
  np.testing.assert_allclose(
    at(few["hidden"], read), at(whole["hidden"], read), atol=2e-5
  )
  others = np.setdiff1d(np.arange(tiny.LENGTH), read[0])
  assert np.abs(few["hidden"] - whole["hidden"])[0, others].max() > 0.1


def as_bert(made, params):
  """The spec and parameters of BERT with these layers."""
  if "towers" not in made:
    return made | dict(kind="encoder"), params
  encoder, late = made["towers"]["encoder"], made["towers"]["narrow"]
  depth = encoder["depth"] + late["depth"]
  own = {k: made[k] for k in ("embeddings", "heads")}
  body = dict(params["encoder"], embeddings=params["embeddings"])
  layers = list(params["encoder"]["stack"].values())
  layers += params["narrow"]["stack"].values()
  body["stack"] = {f"layers_{i}": layer for i, layer in enumerate(layers)}
  body |= {k: v for k, v in params.items() if k.startswith("heads_")}
  return encoder | own | dict(depth=depth), body


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("depth", [1, 2])
def test_one_late_layer_is_berts_and_two_are_not(variant, depth):
  """Keys of a second late layer are those of the first."""
  made = spec(variant, depth)
  plain, params = as_bert(made, built(variant, depth)[1]["params"])
  bert = assembly.build(plain, vocab_size=tiny.VOCAB)
  expected = jax.jit(bert.apply)({"params": params}, batch())
  expected = np.asarray(expected["masked_lm"])[:, :3]
  found = run(variant, depth)["masked_lm"][:, :3]
  if depth == 1:
    np.testing.assert_allclose(found, expected, atol=2e-5)
  else:
    assert np.abs(found - expected).max() > 0.1


@variants
def test_other_documents_and_empty_slots_are_of_no_account(variant):
  expected = run(variant)
  inputs, places = tiny.batch()["inputs"], PLACES.copy()
  inputs = np.where(tiny.SEGMENTS == 1, inputs, 7).astype(np.int32)
  places[:, 3] = 12
  found = run(variant, inputs=inputs, predict_positions=places)
  first = np.take_along_axis(tiny.SEGMENTS, PLACES, 1) == 1
  first[:, 3] = False
  np.testing.assert_allclose(
    found["masked_lm"][first], expected["masked_lm"][first], atol=1e-6
  )
  assert first.sum() == 3


@pytest.mark.slow
def test_sentences_are_read_at_their_first_token_alone():
  """Without predictions and other heads, late layers run on [CLS]."""
  made = spec(depth=2)
  del made["heads"]["masked_lm"]
  model = assembly.build(made, vocab_size=tiny.VOCAB)
  variables = built(depth=2)[1]
  params = {k: v for k, v in variables["params"].items() if "masked" not in k}
  read = {k: tiny.batch()[k] for k in ("inputs", "segments", "positions")}
  out, kept = model.apply(
    {"params": params}, read, capture={"hidden"}, mutable=["intermediates"]
  )
  states = kept["intermediates"]["narrow"]["stack"]["hidden"]
  assert [s.shape for s in states] == [(2, 1, tiny.WIDTH)] * 2
  whole = run(depth=2, predict_positions=None, cls_positions=None)["classify"]
  np.testing.assert_allclose(out["classify"], whole, atol=2e-5)


def test_late_layers_cost_what_they_run_on():
  data = task()
  p = data.batch_spec["predict_ids"].shape[1]
  head = 6 * HEAD * predictions(data)
  whole = 6 * LAYER * LENGTH + 12 * WIDTH * LENGTH**2
  made = tiny.config_model("narrowbert")
  maps = 2 * (WIDTH**2 + WIDTH)  # keys and values, of whole rows
  late = 6 * (maps * LENGTH + (LAYER - maps) * p) + 12 * WIDTH * p * LENGTH
  assert flops(made, data) == ROWS * (whole + 2 * late) + head
  made = tiny.config_model("narrowbert", "tiny_context_first")
  fed = MATRICES - 4 * WIDTH**2 + 64 + WIDTH + 2 * WIDTH  # biases, a norm
  layer = whole - 6 * fed * (LENGTH - p)
  assert flops(made, data) == ROWS * 2 * layer + head


@variants
def test_no_file_of_another_program_holds_it(variant):
  made = spec(variant) | dict(vocab_size=tiny.VOCAB)
  with pytest.raises(NotExportable, match="NarrowBERT"):
    planning.plan(made, built(variant)[1]["params"], None, ())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter_on_any_mesh(variant):
  on_meshes(*built(variant), batch(), gradients)


def late(**changes):
  made = spec()
  made["towers"]["narrow"] |= changes
  return made


def first(**changes):
  return spec("tiny_context_first") | changes


LAYERS = spec()["towers"]["encoder"]["layers"]
CROSSING = dict(
  LAYERS["layer"],
  block=dict(kind="post_norm_cross"),
  cross=dict(kind="cross_attention", heads=2),
)


@pytest.mark.parametrize(
  "made, reason",
  [
    (late(layers=LAYERS), "nothing of the row"),
    (late(width=16), "they are the same"),
    (late(positions=dict(kind="rotary")), "acts on queries and keys"),
    (late(positions=dict(kind="alibi")), "adds to attention scores"),
    (first(stack=dict(kind="scan")), "half by half"),
    (first(layers=dict(layer=CROSSING)), "PostNormCross is not made of"),
  ],
)
def test_what_cannot_be_narrow_is_refused(made, reason):
  with pytest.raises(UserError, match=reason):
    model = assembly.build(made, vocab_size=tiny.VOCAB)
    jax.eval_shape(
      lambda: model.init(jax.random.key(0), tiny.batch() | tiny.memory())
    )
