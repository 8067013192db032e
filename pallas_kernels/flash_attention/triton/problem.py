"""What is known of one call when its kernels are traced."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from pallas_kernels import _asm
from pallas_kernels.flash_attention.operands import Operands, Static
from pallas_kernels.flash_attention.triton.blocks import Blocks, Launch, default

LOG2E = math.log2(math.e)


@dataclasses.dataclass(frozen=True)
class Problem:
  """Shapes, options and tile of one kernel, with the maths they decide.

  Attributes:
    static: options of the call.
    present: names of the operands that are given.
    batch: rows.
    queries: queries a row.
    keys: keys a row.
    heads: heads of the queries.
    key_heads: heads of keys and values.
    head_dim: channels of query and key.
    value_dim: channels of value.
    dtype: of query, key and value.
    launch: tile of the kernel that is traced.
  """

  static: Static
  present: frozenset
  batch: int
  queries: int
  keys: int
  heads: int
  key_heads: int
  head_dim: int
  value_dim: int
  dtype: jnp.dtype
  launch: Launch

  @property
  def group(self) -> int:
    """Heads of queries that share a head of keys."""
    return self.heads // self.key_heads

  @property
  def interpret(self) -> bool:
    """Whether kernels run in the interpreter."""
    return self.static.interpret

  @property
  def query_blocks(self) -> int:
    """Tiles along the queries."""
    return -(-self.queries // self.launch.block_q)

  @property
  def key_blocks(self) -> int:
    """Tiles along the keys."""
    return -(-self.keys // self.launch.block_k)

  @property
  def has_rules(self) -> bool:
    """Whether some keys are hidden from some queries."""
    static = self.static
    return bool(
      static.causal
      or static.window is not None
      or "query_segments" in self.present
    )

  @property
  def keep_factor(self) -> float:
    """What dropout multiplies the probabilities that it keeps with."""
    return 1.0 / (1.0 - self.static.dropout_rate)

  def at(self, launch: Launch) -> "Problem":
    """The same call, seen by a kernel of other tiles."""
    return dataclasses.replace(self, launch=launch)

  def exp2(self, x):
    """2**x in one instruction."""
    return _asm.exp2(x, interpret=self.interpret)

  def reciprocal(self, x):
    """1 / x in one instruction."""
    return _asm.reciprocal(x, interpret=self.interpret)

  def fma(self, a, b, c):
    """a * b + c in one instruction."""
    return _asm.fma(a, b, c, interpret=self.interpret)

  def dot(self, a, b, *, transpose_b=False):
    """a @ b (or a @ b.T) accumulated in float32; never tf32."""
    exact = self.dtype == jnp.float32
    return jax.lax.dot_general(
      a.astype(self.dtype),
      b.astype(self.dtype),
      (((1,), (1 if transpose_b else 0,)), ((), ())),
      precision=jax.lax.Precision.HIGHEST if exact else None,
      preferred_element_type=jnp.float32,
    )


def describe(static: Static, operands: Operands) -> tuple[Problem, Blocks]:
  """The problem, with the forward's tile, and all kernels' tiles."""
  present = frozenset(
    f.name
    for f in dataclasses.fields(operands)
    if getattr(operands, f.name) is not None
  )
  batch, queries, heads, head_dim = operands.query.shape
  _, keys, key_heads, value_dim = operands.value.shape
  blocks = static.blocks or default(
    head_dim=max(padded(head_dim), padded(value_dim)),
    dtype=operands.query.dtype,
    terms=count_terms(static, operands),
    queries=queries,
    keys=keys,
    interpret=static.interpret,
  )
  problem = Problem(
    static=static,
    present=present,
    batch=batch,
    queries=queries,
    keys=keys,
    heads=heads,
    key_heads=key_heads,
    head_dim=head_dim,
    value_dim=value_dim,
    dtype=operands.query.dtype,
    launch=blocks.forward,
  )
  return problem, blocks


def count_terms(static: Static, operands: Operands) -> int:
  """What scores and probabilities are made of beside the dot product."""
  names = ("slopes", "toeplitz", "theta", "dense", "c2p", "p2c")
  found = sum(getattr(operands, name) is not None for name in names)
  return found + (static.dropout_rate > 0.0) + (static.soft_cap is not None)


def padded(channels: int) -> int:
  """The power of two, at least 16, that channels are padded to inside."""
  return max(16, 1 << (channels - 1).bit_length())
