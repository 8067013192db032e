"""FLOPs of models that encode some tokens only: their closed forms."""

import jax
import numpy as np
import pytest

from jaxlm import recipe
from jaxlm.data.corruption import corruptions
from jaxlm.errors import UserError
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.types import Task
from tests import tiny

ROWS, LENGTH, WIDTH, HIDDEN = 4, 64, 32, 64
# A layer of BERT: four maps and two of the feed-forward, biases and norms.
MATRICES = 4 * WIDTH**2 + 2 * WIDTH * HIDDEN
LAYER = MATRICES + 4 * WIDTH + HIDDEN + WIDTH + 4 * WIDTH
HEAD = WIDTH**2 + WIDTH + 2 * WIDTH + tiny.VOCAB + tiny.VOCAB * WIDTH


def task(kind="masking", rate=0.5) -> Task:
  features = corruptions.build(dict(kind=kind, rate=rate)).features(LENGTH)
  spec = {
    key: jax.ShapeDtypeStruct((ROWS, *shape), np.dtype(dtype))
    for key, (shape, dtype) in features.items()
  }
  return Task("toy", spec, None, ROWS)


def flops(spec, data) -> float:
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  return recipe.flops_per_step(spec, recipe.shapes(model), data)


def layers(count, tokens, span=None) -> float:
  """Kaplan's 6 FLOPs a weight and token, and attention's 12 d a pair."""
  pairs = tokens * (span or tokens)
  return ROWS * count * (6 * LAYER * tokens + 12 * WIDTH * pairs)


def predictions(data):
  return data.batch_spec["predict_ids"].size


def test_3ml_costs_the_share_that_is_seen():
  """(1 - m) of the encoder, and the decoder's layers on whole rows."""
  made = tiny.config_model("three_ml")
  data = task("visible_masking")
  seen = data.batch_spec["visible_positions"].shape[1]
  assert seen == 38  # 64 tokens, 32 corrupted, 26 of them [MASK]
  head = 6 * HEAD * predictions(data)
  expected = layers(2, seen) + layers(1, LENGTH) + head
  assert flops(made, data) == expected
  whole = dict(made["towers"]["encoder"], depth=3)
  whole |= dict(embeddings=made["embeddings"], heads=made["heads"])
  assert flops(whole, data) == layers(3, LENGTH) + head


def test_3ml_that_crosses_costs_predictions_alone():
  made = tiny.config_model("three_ml", "tiny_cross")
  data = task("visible_masking")
  p, seen = data.batch_spec["predict_ids"].shape[1], 38
  maps = 2 * (WIDTH**2 + WIDTH)  # the query and what goes out, or key and value
  cross = 6 * maps * (p + seen) + 12 * WIDTH * p * seen
  norm = 6 * 2 * WIDTH * p
  expected = layers(2, seen) + layers(1, p) + ROWS * (cross + norm)
  assert flops(made, data) == expected + 6 * HEAD * predictions(data)


def test_data_that_do_not_say_what_is_visible_are_refused():
  model = assembly.build(tiny.config_model("three_ml"), vocab_size=tiny.VOCAB)
  objective = objectives.build(dict(kind="masked_lm"))
  recipe.check_features(objective, model, task("visible_masking"))
  with pytest.raises(UserError, match="corruption.kind='visible_masking'"):
    recipe.check_features(objective, model, task())


def test_a_mask_decoder_costs_another_pass_of_the_last_layer():
  """Keys and values are made once, and `hidden` by a third where it is read."""
  made = tiny.config_model("deberta")
  made["heads"] = dict(masked_lm=made["heads"]["masked_lm"])
  data = task("masking")
  plain = flops(made | dict(kind="encoder"), data)
  again = flops(made, data) - plain
  width = made["width"]
  matrices = (
    2 * width**2 + 2 * width * made["layers"]["last"]["feedforward"]["hidden"]
  )
  each = 6 * matrices * LENGTH + 12 * width * LENGTH**2
  assert 1.0 < again / (ROWS * each) < 1.05  # biases and norms beside
  heads = made["heads"] | dict(tag=dict(kind="tag", classes=3))
  both = flops(made | dict(heads=heads), data)
  alone = flops(made | dict(kind="encoder", heads=heads), data)
  assert both - alone == 2 * again
