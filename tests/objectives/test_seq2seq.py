"""Teacher-forced cross-entropy of a target text."""

import functools

import jax
import numpy as np
import pytest

from jaxlm import errors
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from tests import tiny

TARGET = 6


@functools.cache
def case():
  spec = tiny.config_model("t5")
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.integers(1, tiny.VOCAB, shape).astype(np.int32)
  weights = np.ones((2, TARGET), np.float32)
  weights[1, 4:] = 0
  batch = {
    "inputs": draw(2, 9),
    "decoder_inputs": draw(2, TARGET),
    "decoder_segments": weights.astype(np.int32),
    "targets": draw(2, TARGET),
    "weights": weights,
  }
  return model, tiny.fill(tiny.shapes(model, batch)), batch


def outcome(batch):
  model, params, _ = case()
  part = objectives.build(dict(kind="seq2seq"))
  run = lambda params, batch: part(
    model, params, batch, jax.random.key(0), train=False
  )
  return part, jax.jit(run)(params, batch)


def test_the_loss_is_the_mean_over_target_tokens():
  model, params, batch = case()
  part, found = outcome(batch)
  logits = np.asarray(
    jax.jit(model.apply)(params, batch)["seq2seq_lm"], np.float64
  )
  logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
  chosen = np.take_along_axis(logits, batch["targets"][..., None], -1)[..., 0]
  assert float(part.weights(batch)["seq2seq"]) == 10.0
  np.testing.assert_allclose(
    found.sums["seq2seq"], -(chosen * batch["weights"]).sum(), rtol=1e-5
  )
  right, count = found.metrics["accuracy"]
  likely = (logits.argmax(-1) == batch["targets"]) * batch["weights"]
  assert (float(right), float(count)) == (likely.sum(), 10.0)
  other = {**batch, "targets": np.where(batch["weights"], batch["targets"], 5)}
  np.testing.assert_array_equal(
    outcome(other)[1].sums["seq2seq"], found.sums["seq2seq"]
  )


def test_a_model_without_the_head_is_told():
  model, params = tiny.build(tiny.model_spec())
  part = objectives.build(dict(kind="seq2seq"))
  with pytest.raises(errors.UserError, match="seq2seq_lm"):
    part(model, params, case()[2], jax.random.key(0), train=False)
