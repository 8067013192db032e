"""Softmax attention over given queries, keys and values, as mixers call it."""

import math

from jaxlm.context import capture
from jaxlm.layers.mixers import _implementations
from pallas_kernels.flash_attention import bias, flash_attention


def placed(positions, query, key, ctx, scale=0.0):
  """What a mixer's own positions make of queries, keys and `ctx.bias`.

  Args:
    positions: `Positions`, or None.
    query: [batch, length, heads, head_dim].
    key: [batch, key_length, key_heads, head_dim].
    ctx: the context.
    scale: as `attend` takes it.

  Returns:
    query, key and the context for `attend`.
  """
  if positions is None:
    return query, key, ctx
  term = positions.at_scores(query, key, ctx, scale or _scale(query, ctx))
  query, key = positions.at_query_key(query, key, ctx)
  return query, key, ctx.replace(bias=bias.add(ctx.bias, term))


def attend(
  module,
  ctx,
  query,
  key,
  value,
  *,
  dropout=0.0,
  implementation=None,
  causal=False,
  window=None,
  key_segments=None,
  offset=0,
  scale=0.0,
):
  """Mixes values by the scores of queries and keys, adding `ctx.bias`.

  Args:
    module: the mixer; it draws dropout and keeps 'attention_probabilities'.
    ctx: the context.
    query: [batch, length, heads, head_dim].
    key: [batch, key_length, key_heads, head_dim].
    value: the same.
    dropout: rate on the probabilities while training.
    implementation: a name of `flash_attention.implementations()`, or None.
    causal: hide what comes later.
    window: (before, after), distances that a query sees, or None.
    key_segments: [batch, key_length]; those of `ctx` where None.
    offset: the place of the first query among the keys.
    scale: of the scores; 1 / sqrt(score_terms * head_dim) where 0.

  Returns:
    [batch, length, heads, head_dim].

  Raises:
    UserError: the named implementation cannot do this.
  """
  rate = dropout if ctx.train else 0.0
  wanted = "attention_probabilities" in ctx.capture
  # Shapes are asked for on machines that do not have the device.
  apart = module.is_initializing() or ctx.cache_length or wanted
  implementation = None if apart else implementation
  with _implementations.mendable(implementation):
    out = flash_attention(
      query,
      key,
      value,
      bias=ctx.bias,
      segments=ctx.segments,
      key_segments=ctx.segments if key_segments is None else key_segments,
      query_offset=offset,
      causal=causal,
      window=window,
      scale=scale or _scale(query, ctx),
      dropout_rate=rate,
      dropout_key=module.make_rng("dropout") if rate else None,
      implementation=implementation,
      with_probabilities=wanted,
    )
  if wanted:
    out, probabilities = out
    capture(module, ctx, "attention_probabilities", probabilities)
  return out


def _scale(query, ctx):
  return 1.0 / math.sqrt(ctx.score_terms * query.shape[-1])
