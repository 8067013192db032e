"""Linear attention in time and memory linear in length, in XLA.

The row is cut into chunks. Within a chunk the scores are written out; what a
chunk needs to know of the others is a sum of outer products, its state: over
the keys before it, and without causality over those after it.

Packed documents are contiguous, so that a chunk shares at most two of them
with its neighbours: the state from the left holds the document of the chunk's
first position, the one from the right that of its last, and a query reads a
state only if that is its own document.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from pallas_kernels.linear_attention.reference import blank


def linear_attention(
  query_features, key_features, value, *, causal, segments, epsilon, chunk=None
):
  """See `api.linear_attention`; `chunk` positions at a time."""
  wide = jnp.promote_types(value.dtype, jnp.float32)
  small = jnp.finfo(value.dtype).bits == 16
  precision = lax.Precision.HIGH if small else lax.Precision.HIGHEST
  query, key, value = (
    blank(x, segments) for x in (query_features, key_features, value)
  )
  if segments is None and not causal:
    return _whole(query, key, value, wide, precision, epsilon)
  length = query.shape[1]
  chunk = min(chunk or 128, length)
  documents = None if segments is None else fill(segments)
  parts = [split(x, chunk) for x in (query, key, value)]
  documents = None if documents is None else split(documents, chunk)
  step = functools.partial(
    _step, causal=causal, wide=wide, precision=precision, epsilon=epsilon
  )
  after = None if causal else _after(parts, documents, wide, precision)
  start = _empty(parts[1], parts[2], wide), _first(documents)
  _, out = lax.scan(jax.checkpoint(step), start, (*parts, documents, after))
  out = jnp.moveaxis(out, 0, 1)
  return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :length]


def fill(segments):
  """Segment ids with each padding's replaced by the last real one before it.

  A document with holes is in one piece then; holes themselves have neither
  features nor values.
  """
  place = jnp.arange(segments.shape[1], dtype=jnp.int32)[None]
  last = lax.cummax(jnp.where(segments > 0, place, 0), axis=1)
  return jnp.take_along_axis(segments, last, axis=1)


def split(x, chunk: int):
  """[chunks, batch, chunk, ..] of [batch, length, ..], with 0 at the end."""
  batch, length, *rest = x.shape
  missing = -length % chunk
  x = jnp.pad(x, ((0, 0), (0, missing), *((0, 0) for _ in rest)))
  return jnp.moveaxis(x.reshape(batch, -1, chunk, *rest), 1, 0)


def _whole(query, key, value, wide, precision, epsilon):
  """All see all: one state."""
  dot = functools.partial(
    jnp.einsum, precision=precision, preferred_element_type=wide
  )
  total = jnp.sum(key, 1, dtype=wide)
  state = dot("bjhf,bjhd->bhfd", key, value)
  query = query.astype(wide)
  out = dot("bihf,bhfd->bihd", query, state)
  return out / (dot("bihf,bhf->bih", query, total) + epsilon)[..., None]


def _empty(key, value, wide):
  """State of no keys: sums of key x value and of key."""
  _, batch, _, heads, features = key.shape
  return (
    jnp.zeros((batch, heads, features, value.shape[-1]), wide),
    jnp.zeros((batch, heads, features), wide),
  )


def _first(documents):
  """The document that a state of no keys is said to hold."""
  return None if documents is None else documents[0, :, 0]


def _sum(key, value, wide, precision):
  """State of a chunk's keys."""
  dot = functools.partial(
    jnp.einsum, precision=precision, preferred_element_type=wide
  )
  return dot("bjhf,bjhd->bhfd", key, value), jnp.sum(key, 1, dtype=wide)


def _keep(flag, state):
  """The state where flag [batch], else nothing."""
  return jax.tree.map(
    lambda s: jnp.where(flag.reshape((-1,) + (1,) * (s.ndim - 1)), s, 0.0),
    state,
  )


def _add(a, b):
  return jax.tree.map(jnp.add, a, b)


def _after(parts, documents, wide, precision):
  """For each chunk the state of the keys after it, of its last document."""
  _, key, value = parts

  @jax.checkpoint
  def step(carry, inputs):
    state, document = carry
    key, value, documents = inputs
    # What follows this chunk counts only if it goes on with its document.
    last = documents[:, -1]
    state = _keep(document == last, state)
    own = (documents == documents[:, :1])[..., None, None]
    new = _sum(jnp.where(own, key, 0), value, wide, precision)
    through = last == documents[:, 0]
    return (_add(new, _keep(through, state)), documents[:, 0]), state

  start = _empty(key, value, wide), documents[-1, :, -1]
  _, states = lax.scan(step, start, (key, value, documents), reverse=True)
  return states


def _step(carry, inputs, *, causal, wide, precision, epsilon):
  """One chunk: its scores, the state before it, the state after it."""
  before, document = carry
  query, key, value, documents, after = inputs
  dot = functools.partial(jnp.einsum, precision=precision)
  scores = dot("bihf,bjhf->bhij", query, key, preferred_element_type=wide)
  if causal:
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    scores = jnp.where(seen[None, None], scores, 0.0)
  if documents is not None:
    same = documents[:, None, :, None] == documents[:, None, None, :]
    scores = jnp.where(same, scores, 0.0)
    last = documents[:, -1]
    goes_on = last == document  # since `before` and through all of this chunk
    reads = (documents == document[:, None])[..., None, None]
    key_out = jnp.where((documents == last[:, None])[..., None, None], key, 0)
  query = query.astype(wide)
  out = dot("bhij,bjhd->bihd", scores, value.astype(wide))
  total = jnp.moveaxis(jnp.sum(scores, -1), 1, 2)
  left = query if documents is None else jnp.where(reads, query, 0.0)
  states = [(left, before)]
  if after is not None:
    right = (documents == last[:, None])[..., None, None]
    states.append((jnp.where(right, query, 0.0), after))
  for asked, (state, sums) in states:
    out = out + dot("bihf,bhfd->bihd", asked, state)
    total = total + dot("bihf,bhf->bih", asked, sums)
  out = out / (total + epsilon)[..., None]
  if documents is None:
    return (_add(before, _sum(key, value, wide, precision)), None), out
  new = _sum(key_out, value, wide, precision)
  return (_add(new, _keep(goes_on, before)), last), out
