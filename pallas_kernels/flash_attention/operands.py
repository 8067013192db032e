"""What every kernel computes, told as arrays and static options.

`lower` turns the arguments of `api.flash_attention`, with its tree of biases,
into `Operands` (arrays, differentiable where floating) and `Static` (hashable
options). Kernels then know a handful of terms instead of classes of biases:

  score[b,h,i,j] = scale * query[b,i,h] . key[b,j,h']
                   + positional[b,h,i,j] + dense[b,h,i,j]
                   + c2p[b,i,h, c2p_buckets[j-i+Q-1]]
                   + p2c[b,j,h, p2c_buckets[j-i+Q-1]]
  positional     = theta[0,h]            where query_first[b,i]
                   theta[1,h]            else where key_first[b,j]
                   toeplitz[h,j-i+Q-1] - slopes[h] * |j - i - query_offset|
  score          = soft_cap * tanh(score / soft_cap)

with Q queries and K keys; absent terms are None. Untied positions are dot
products: they travel as more channels of query and key, which may therefore
be wider than value.
"""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Operands:
  """The arrays of one call; every optional one may be None.

  Attributes:
    query: [batch, queries, heads, head_dim].
    key: [batch, keys, key_heads, head_dim].
    value: [batch, keys, key_heads, value_dim].
    query_segments: [batch, queries] int32; 0 is padding.
    key_segments: [batch, keys] int32; 0 is padding, never seen.
    slopes: [heads] float32, of symmetric ALiBi.
    toeplitz: [heads, queries + keys - 1] float32, a score per distance.
    theta: [2, heads] float32, replaces positional scores (TUPE's reset).
    query_first: [1 or batch, queries] int32, 1 at a document's first token.
    key_first: [1 or batch, keys] int32.
    dense: [1 or batch, 1 or heads, queries, keys] floating.
    c2p: [batch, queries, heads, buckets] floating, content to position.
    p2c: [batch, keys, heads, buckets] floating, position to content.
    c2p_buckets: [queries + keys - 1] int32, a bucket per distance.
    p2c_buckets: [queries + keys - 1] int32.
    row_hash: [batch, heads, queries] uint32, see `dropout.row_hash`.
    column_seed: [1] uint32.
  """

  query: jax.Array
  key: jax.Array
  value: jax.Array
  query_segments: jax.Array | None = None
  key_segments: jax.Array | None = None
  slopes: jax.Array | None = None
  toeplitz: jax.Array | None = None
  theta: jax.Array | None = None
  query_first: jax.Array | None = None
  key_first: jax.Array | None = None
  dense: jax.Array | None = None
  c2p: jax.Array | None = None
  p2c: jax.Array | None = None
  c2p_buckets: jax.Array | None = None
  p2c_buckets: jax.Array | None = None
  row_hash: jax.Array | None = None
  column_seed: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Static:
  """Options that are part of the compiled program.

  Attributes:
    causal: keys after the query are hidden.
    window: (before, after) keys that are seen, or None for all.
    scale: factor of the dot products.
    soft_cap: see the module's formula, or None.
    dropout_rate: share of the probabilities set to 0.
    query_offset: place of the first query among the keys.
    blocks: the backend's tile sizes (a frozen dataclass of its own), or None
      for its table's.
    interpret: run in Pallas' interpreter on any device.
  """

  causal: bool = False
  window: tuple[int, int] | None = None
  scale: float = 1.0
  soft_cap: float | None = None
  dropout_rate: float = 0.0
  query_offset: int = 0
  blocks: object = None
  interpret: bool = False
