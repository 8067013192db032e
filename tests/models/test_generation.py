"""Decoding with kept keys and values equals the full forward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.models import generation
from jaxlm.models.generation import Sampling
from tests import tiny

# Padded on the left; two packed documents; one document.
SEGMENTS = np.array([[0] * 3 + [1] * 9, [1] * 5 + [2] * 7, [1] * 12], np.int32)
CHUNK = 3


def decoder(positions, stack="sequential", **mixer):
  return tiny.build(
    tiny.model_spec(
      kind="decoder",
      positions=positions,
      layers=dict(layer=tiny.layer(mixer=dict(causal=True, **mixer))),
      depth=2,
      stack=dict(kind=stack),
      heads=dict(causal_lm=dict(kind="causal_lm")),
    )
  )


DECODERS = {
  "learned": dict(positions=dict(kind="learned", max_length=32)),
  "rotary scanned": dict(positions=dict(kind="rotary"), stack="scan"),
  "alibi grouped": dict(positions=dict(kind="alibi"), key_heads=2),
  "buckets window": dict(
    positions=dict(kind="relative_buckets", bidirectional=False), window=4
  ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_chunks_with_a_cache_equal_the_full_forward(name):
  """Also with left padding, packed documents, windows and score biases."""
  model, params = decoder(**DECODERS[name])
  batch = tiny.batch(SEGMENTS)
  batch = {k: batch[k] for k in ("inputs", "segments", "positions")}
  full = jax.jit(model.apply)(params, batch)["causal_lm"]
  length = SEGMENTS.shape[1]
  cached = functools.partial(model.apply, cache_length=length, mutable="cache")
  piece = lambda at: {k: v[:, at : at + CHUNK] for k, v in batch.items()}
  shapes = tiny.shapes(model, piece(0), cache_length=length)
  cache = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes["cache"])
  step, chunks = jax.jit(cached), []
  for at in range(0, length, CHUNK):
    out, updated = step({**params, "cache": cache}, piece(at))
    cache = updated["cache"]
    chunks.append(out["causal_lm"])
  np.testing.assert_allclose(
    tiny.real(jnp.concatenate(chunks, axis=1), SEGMENTS),
    tiny.real(full, SEGMENTS),
    atol=1e-4,
  )


PROMPTS = np.array([[0, 0, 7, 9], [5, 3, 8, 2]], np.int32)
PROMPT_SEGMENTS = (PROMPTS > 0).astype(np.int32)
NEW = 5


@functools.cache
def gpt2():
  return tiny.build(tiny.config_model("gpt2"))


@functools.cache
def compiled(sampling, eos_id=None):
  model, params = gpt2()
  return jax.jit(
    lambda key: generation.generate(
      model,
      params,
      PROMPTS,
      max_new_tokens=NEW,
      key=key,
      sampling=sampling,
      segments=PROMPT_SEGMENTS,
      eos_id=eos_id,
      pad_id=1,
    )
  )


def run(sampling=generation.GREEDY, seed=0, **options):
  return np.asarray(compiled(sampling, **options)(jax.random.key(seed)))


def test_greedy_takes_the_most_likely_token_of_the_full_forward():
  """One prompt of two is padded on the left."""
  model, params = gpt2()
  tokens = run()
  assert tokens.shape == (2, NEW) and tokens.dtype == np.int32
  inputs = np.concatenate([PROMPTS, tokens], axis=1)
  segments = np.pad(PROMPT_SEGMENTS, ((0, 0), (0, NEW)), constant_values=1)
  logits = model.apply(
    params,
    {
      "inputs": inputs,
      "segments": segments,
      "positions": np.maximum(segments.cumsum(1) - 1, 0),
    },
  )["causal_lm"]
  likely = np.asarray(logits).argmax(-1)
  np.testing.assert_array_equal(tokens, likely[:, 3:-1])


def test_a_row_ends_with_its_end_of_text():
  plain = run()
  stop = int(plain[1, 1])
  ended = run(eos_id=stop)
  for row, expected in zip(ended, plain):
    first = list(expected).index(stop) if stop in expected else NEW
    np.testing.assert_array_equal(row[: first + 1], expected[: first + 1])
    assert (row[first + 1 :] == 1).all()


def test_sampling_follows_its_key():
  warm = Sampling(temperature=1.5)
  np.testing.assert_array_equal(run(warm, 1), run(warm, 1))
  assert (run(warm, 1) != run(warm, 2)).any()
  assert (run(warm, 1) != run()).any()


LOGITS = np.log(np.array([0.05, 0.4, 0.15, 0.3, 0.1]))


@pytest.mark.parametrize(
  ("sampling", "expected"),
  [
    (Sampling(1.0), [0.05, 0.4, 0.15, 0.3, 0.1]),
    (Sampling(1.0, top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
    (Sampling(1.0, top_k=99), [0.05, 0.4, 0.15, 0.3, 0.1]),
    (Sampling(1.0, top_p=0.65), [0, 4 / 7, 0, 3 / 7, 0]),
    (Sampling(1.0, top_p=0.75), [0, 8 / 17, 3 / 17, 6 / 17, 0]),
    (Sampling(1.0, top_p=1e-6), [0, 1, 0, 0, 0]),
    (Sampling(0.5), np.array([1, 64, 9, 36, 4]) / 114),
    # The three likeliest share 0.85: the first two of them have 0.82 of that.
    (Sampling(1.0, top_k=3, top_p=0.8), [0, 4 / 7, 0, 3 / 7, 0]),
    (Sampling(0.0), [0, 1, 0, 0, 0]),
  ],
)
def test_choice_has_the_closed_form(sampling, expected):
  count = 8000
  logits = jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (count, 5))
  chosen = np.asarray(generation.choose(logits, jax.random.key(0), sampling))
  share = np.bincount(chosen, minlength=5) / count
  np.testing.assert_allclose(share, expected, atol=0.025)
  assert (share[np.asarray(expected) == 0] == 0).all()


@pytest.mark.parametrize(
  ("sampling", "words"),
  [
    (Sampling(-1.0), "temperature is -1.0"),
    (Sampling(1.0, top_k=-2), "top_k is -2"),
    (Sampling(1.0, top_p=0.0), "top_p is 0.0"),
    (Sampling(1.0, top_p=1.5), "top_p is 1.5"),
  ],
)
def test_values_out_of_range_are_told(sampling, words):
  with pytest.raises(UserError, match=words):
    run(sampling)


def test_more_tokens_than_positions_are_told():
  model, params = gpt2()
  with pytest.raises(UserError) as error:
    generation.generate(
      model, params, PROMPTS, max_new_tokens=1021, key=jax.random.key(0)
    )
  assert str(error.value) == (
    "The prompt's 4 tokens and 1021 new ones are more than the model's 1024 "
    "positions."
  )
