"""Encoder-decoders that write: kept keys and values equal the full forward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.models import assembly, generation
from tests import tiny

NEW = 5
SOURCE = {
  "inputs": np.array([[7, 9, 4, 0, 0], [5, 3, 8, 2, 6]], np.int32),
  "segments": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
}
STARTS = np.array([[1, 6], [1, 9]], np.int32)


@functools.cache
def built(name):
  model = assembly.build(tiny.config_model(name), vocab_size=tiny.VOCAB)
  return model, tiny.fill(tiny.shapes(model, SOURCE))


@functools.cache
def written(name, eos_id=None):
  model, params = built(name)
  run = jax.jit(
    lambda key: generation.generate_from(
      model,
      params,
      SOURCE,
      STARTS,
      max_new_tokens=NEW,
      key=key,
      eos_id=eos_id,
      pad_id=1,
    )
  )
  return np.asarray(run(jax.random.key(0)))


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_greedy_takes_the_most_likely_token_of_the_full_forward(name):
  """One of the two sources is padded."""
  model, params = built(name)
  tokens = written(name)
  assert tokens.shape == (2, NEW) and tokens.dtype == np.int32
  target = np.concatenate([STARTS, tokens], axis=1)
  batch = {**SOURCE, "decoder_inputs": target}
  batch["decoder_segments"] = np.ones_like(target)
  logits = jax.jit(model.apply)(params, batch)["seq2seq_lm"]
  likely = np.asarray(logits).argmax(-1)
  np.testing.assert_array_equal(tokens, likely[:, 1:-1])
  assert len(np.unique(tokens)) > 1


def test_a_row_ends_with_its_end_of_text():
  plain = written("t5")
  stop = int(plain[1, 1])
  for row, expected in zip(written("t5", stop), plain):
    first = list(expected).index(stop) if stop in expected else NEW
    np.testing.assert_array_equal(row[: first + 1], expected[: first + 1])
    assert (row[first + 1 :] == 1).all()


def test_more_tokens_than_positions_are_told():
  model, params = built("bart")
  with pytest.raises(UserError, match="more than the model's 1024 positions"):
    generation.generate_from(
      model,
      params,
      SOURCE,
      jnp.asarray(STARTS),
      max_new_tokens=1023,
      key=jax.random.key(0),
    )
