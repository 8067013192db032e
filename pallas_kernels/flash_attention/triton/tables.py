"""Gradients of disentangled tables: dS added up by bucket, row by row.

Atomic additions to the tables would need no dS in memory, but they lower to
one fence each. Reading dS back costs as much as reading a table of as many
buckets as there are keys, and has a fixed order.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

from pallas_kernels.flash_attention.triton import visits
from pallas_kernels.flash_attention.triton.problem import Problem

_OWNERS, _BUCKETS = 32, 64


def gradient(problem: Problem, name: str, ds, table, buckets):
  """Gradient of `table`.

  Args:
    problem: the call.
    name: "c2p" or "p2c".
    ds: [batch, heads, owners, others]; queries own c2p, keys p2c.
    table: [batch, owners, heads, buckets].
    buckets: [queries + keys - 1] int32.

  Returns:
    An array like table, sums made in float32.
  """
  # Distances in the order of their buckets, and where each bucket starts.
  order = jnp.argsort(buckets).astype(jnp.int32)
  starts = jnp.searchsorted(
    buckets[order], jnp.arange(table.shape[3] + 1, dtype=buckets.dtype)
  )
  block = (
    min(_OWNERS, pl.next_power_of_2(table.shape[1])),
    min(_BUCKETS, pl.next_power_of_2(table.shape[3])),
  )
  return visits.launch(
    functools.partial(_kernel, problem, name == "c2p", block),
    problem,
    name=f"attention_backward_{name}",
    grid=(
      -(-table.shape[1] // block[0]),
      -(-table.shape[3] // block[1]),
      problem.batch * problem.heads,
    ),
    inputs={"ds": ds, "order": order, "starts": starts.astype(jnp.int32)},
    outputs={"table": visits.Output(table.shape, table.dtype)},
    matmuls=0,
  )["table"]


def _kernel(problem, of_queries, block, refs, outs):
  row = pl.program_id(2)
  batch, head = row // problem.heads, row % problem.heads
  owner = pl.program_id(0) * block[0] + jnp.arange(block[0], dtype=jnp.int32)
  bucket = pl.program_id(1) * block[1] + jnp.arange(block[1], dtype=jnp.int32)
  owner, bucket = owner[:, None], bucket[None, :]
  exists = bucket < outs["table"].shape[3]
  start = _read(refs["starts"].at[bucket], exists)
  count = _read(refs["starts"].at[bucket + 1], exists) - start
  others = refs["ds"].shape[3]
  owned = owner < refs["ds"].shape[2]

  def add(n, total):
    place = refs["order"].at[start + n]
    away = _read(place, n < count) - (problem.queries - 1)
    other = owner + away if of_queries else owner - away
    mask = owned & (n < count) & (other >= 0) & (other < others)
    ds = _read(refs["ds"].at[batch, head, owner, other], mask)
    return total + ds.astype(jnp.float32)

  zero = jnp.zeros(block, jnp.float32)
  total = jax.lax.fori_loop(0, jnp.max(count), add, zero)
  out = outs["table"]
  place = out.at[batch, owner, head, bucket]
  pltriton.store(place, total.astype(out.dtype), mask=owned & exists)


def _read(place, mask):
  zero = jnp.zeros((), place.dtype)
  mask = jnp.broadcast_to(mask, place.shape)
  return pltriton.load(place, mask=mask, other=zero)
