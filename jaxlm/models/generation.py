"""Decoding from a causal model with kept keys and values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlm import errors


class Sampling(NamedTuple):
  """How the next token is chosen.

  Attributes:
    temperature: 0 takes the most likely token (greedy).
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the fewest tokens whose probabilities reach p; 1 keeps all.
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0

  def check(self) -> None:
    """Raises UserError for a value out of its range."""
    if self.temperature < 0.0:
      raise errors.UserError(f"temperature is {self.temperature}, under 0.")
    if self.top_k < 0:
      raise errors.UserError(f"top_k is {self.top_k}; 0 keeps all tokens.")
    if not 0.0 < self.top_p <= 1.0:
      raise errors.UserError(
        f"top_p is {self.top_p}; it is over 0, and 1 keeps all tokens."
      )


GREEDY = Sampling()


def choose(logits, key, sampling: Sampling):
  """Next tokens [batch] from logits [batch, vocab]."""
  if sampling.temperature == 0.0:
    return jnp.argmax(logits, axis=-1)
  logits = logits.astype(jnp.float32) / sampling.temperature
  if sampling.top_k:
    k = min(sampling.top_k, logits.shape[-1])
    least = jax.lax.top_k(logits, k)[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  if sampling.top_p < 1.0:
    ordered = jnp.sort(logits, axis=-1, descending=True)
    before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
    before = before - jax.nn.softmax(ordered, axis=-1)
    kept = jnp.where(before < sampling.top_p, ordered, jnp.inf)
    logits = jnp.where(
      logits < jnp.min(kept, axis=-1, keepdims=True), -jnp.inf, logits
    )
  return jax.random.categorical(key, logits, axis=-1)


def generate(
  model,
  variables,
  prompts,
  *,
  max_new_tokens: int,
  key,
  sampling: Sampling = GREEDY,
  segments=None,
  eos_id: int | None = None,
  pad_id: int = 0,
):
  """Continues prompts with one forward for each token.

  Args:
    model: a decoder with a head `causal_lm`.
    variables: {"params": ...}.
    prompts: [batch, length] int32, padded on the left.
    max_new_tokens: tokens to add.
    key: PRNG key.
    sampling: how tokens are chosen.
    segments: [batch, length] int32, 1 at real tokens; all real where None.
    eos_id: a row that has drawn it continues with `pad_id`.
    pad_id: see `eos_id`.

  Returns:
    [batch, max_new_tokens] int32.

  Raises:
    UserError: prompt and continuation are longer than the position table, or
      a sampling value is out of its range.
  """
  sampling.check()
  total = _room(model.positions, prompts.shape[1], max_new_tokens)
  if segments is None:
    segments = jnp.ones_like(prompts)

  def forward(cache, tokens, segments, positions):
    batch = {"inputs": tokens, "segments": segments, "positions": positions}
    outputs, updated = model.apply(
      variables | cache, batch, cache_length=total, mutable=["cache"]
    )
    return outputs["causal_lm"][:, -1], updated

  positions = jnp.maximum(jnp.cumsum(segments, axis=1) - 1, 0)
  cache = _empty(model, {"inputs": prompts}, total)
  logits, cache = forward(cache, prompts, segments, positions)
  ends = (eos_id, pad_id)
  keys = jax.random.split(key, max_new_tokens)
  return _go_on(forward, logits, cache, positions, keys, sampling, ends)


def generate_from(
  model,
  variables,
  source,
  starts,
  *,
  max_new_tokens: int,
  key,
  sampling: Sampling = GREEDY,
  eos_id: int | None = None,
  pad_id: int = 0,
):
  """Writes what an encoder-decoder makes of its sources.

  The encoder runs once, and its keys and values are kept like the decoder's.

  Args:
    model: an `EncoderDecoder` with a head `seq2seq_lm`.
    variables: {"params": ...}.
    source: batch with `inputs`, and where given `segments` and `positions`,
      of one document a row.
    starts: [batch, length] int32, what the decoder begins with.
    max_new_tokens: tokens to add.
    key: PRNG key.
    sampling: how tokens are chosen.
    eos_id: a row that has drawn it continues with `pad_id`.
    pad_id: see `eos_id`.

  Returns:
    [batch, max_new_tokens] int32.

  Raises:
    UserError: starts and new tokens are longer than the decoder's position
      table, or a sampling value is out of its range.
  """
  sampling.check()
  total = _room(model.decoder.positions, starts.shape[1], max_new_tokens)

  def forward(cache, tokens, segments, positions, memory=()):
    batch = {
      "decoder_inputs": tokens,
      "decoder_segments": segments,
      "decoder_positions": positions,
      **dict(memory),
    }
    outputs, updated = model.apply(
      variables | cache,
      batch,
      cache_length=total,
      mutable=["cache"],
      method="decode",
    )
    return outputs["seq2seq_lm"][:, -1], updated

  memory = model.apply(variables, source, method="encode")
  positions = jnp.broadcast_to(jnp.arange(starts.shape[1])[None], starts.shape)
  cache = _empty(model, {**source, "decoder_inputs": starts}, total)
  real = jnp.ones_like(starts)
  logits, cache = forward(cache, starts, real, positions, memory)
  ends = (eos_id, pad_id)
  keys = jax.random.split(key, max_new_tokens)
  return _go_on(forward, logits, cache, positions, keys, sampling, ends)


def _room(positions, held: int, new: int) -> int:
  """Tokens that a cache must hold."""
  longest = positions.longest()
  if longest is not None and held + new > longest:
    raise errors.UserError(
      f"The prompt's {held} tokens and {new} new ones are more than the "
      f"model's {longest} positions."
    )
  return held + new


def _empty(model, batch, total: int):
  """{"cache": zeros} for rows of `total` tokens."""
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), batch, cache_length=total)["cache"]
  )
  return {"cache": jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)}


def _go_on(forward, logits, cache, positions, keys, sampling, ends):
  """One new token [batch] a key, from the logits of the last one."""
  eos_id, pad_id = ends

  def step(carry, key):
    logits, cache, position, done = carry
    token = choose(logits, key, sampling).astype(jnp.int32)
    token = jnp.where(done, pad_id, token)
    done = done | (token == eos_id) if eos_id is not None else done
    position = position + 1
    logits, cache = forward(
      cache, token[:, None], jnp.ones_like(token)[:, None], position[:, None]
    )
    return (logits, cache, position, done), token

  done = jnp.zeros(logits.shape[0], bool)
  carry = (logits, cache, positions[:, -1], done)
  _, tokens = jax.lax.scan(step, carry, keys)
  return tokens.T
