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
be wider than value. Every floating operand gets a gradient.
"""

import dataclasses
import operator

import jax
import jax.numpy as jnp

from pallas_kernels import dropout
from pallas_kernels.flash_attention import bias as biases


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


def lower(
  query,
  key,
  value,
  *,
  bias,
  query_segments,
  key_segments,
  query_offset,
  causal,
  window,
  scale,
  soft_cap,
  dropout_rate,
  dropout_key,
) -> tuple[Static, Operands]:
  """The arguments of `reference.attention` as a kernel takes them.

  To be called outside of any `shard_map`: the hashes of dropout count the
  rows and heads of the whole batch. Gradients reach the biases' own arrays
  (a table of buckets) through what is computed here.

  Untied positions become channels that are divided by `scale` in float32 and
  then rounded once to the dtype of query and key: a product of bfloat16
  vectors whose factor stands in float32 loses nothing. Where they meet fewer
  key heads, key and value are repeated for each head.

  Returns:
    (options, arrays).

  Raises:
    NotImplementedError: a query_offset or scale that is only known when the
      program runs, or biases whose sum the formula of this module cannot say.
    ValueError: a bias by distance of the wrong length.
  """
  batch, queries, heads, _ = query.shape
  static = Static(
    causal=bool(causal),
    window=None if window is None else (int(window[0]), int(window[1])),
    scale=_known("scale", scale, float),
    soft_cap=None if soft_cap is None else _known("soft_cap", soft_cap, float),
    dropout_rate=_known("dropout_rate", dropout_rate, float),
    query_offset=_known("query_offset", query_offset, operator.index),
  )
  terms = _Terms(static, queries, key.shape[1])
  terms.take(bias)
  query, key, value = terms.widened(query, key, value)
  operands = Operands(
    query=query,
    key=key,
    value=value,
    query_segments=query_segments,
    key_segments=key_segments,
    **terms.found,
  )
  if static.dropout_rate > 0.0:
    rows, seed = dropout.row_hash(dropout_key, (batch, heads, queries))
    operands = dataclasses.replace(
      operands, row_hash=rows, column_seed=seed[None]
    )
  return static, operands


def _known(name, value, convert):
  if isinstance(value, jax.core.Tracer):
    raise NotImplementedError(
      f"kernels need a {name} that is known when they are compiled"
    )
  return convert(value)


class _Terms:
  """A tree of biases sorted into the terms of the formula.

  Attributes:
    found: operands by name, of the terms seen so far.
    untied: (query, key) channels, of untied positions.
  """

  def __init__(self, static: Static, queries: int, keys: int):
    self.static, self.queries, self.keys = static, queries, keys
    self.found, self.untied = {}, []
    self._outside = None  # a positional bias that stands beside a reset

  def take(self, bias, first=None) -> None:
    """Adds a bias; `first` are the first tokens of the reset around it."""
    match bias:
      case None:
        pass
      case biases.Sum():
        for term in bias.terms:
          self.take(term, first)
      case biases.Alibi():
        self._by_distance("slopes", _wide(bias.slopes), bias, first)
      case biases.Buckets():
        by_distance = bias.toeplitz(
          self.queries, self.keys, self.static.query_offset
        )
        self._by_distance("toeplitz", _wide(by_distance.values), bias, first)
      case biases.Toeplitz():
        biases.check_distances(
          "Toeplitz", bias.values.shape[1], self.queries, self.keys
        )
        self._by_distance("toeplitz", _wide(bias.values), bias, first)
      case biases.Untied():
        self._untied(bias, first)
      case biases.Dense():
        self._dense(bias, first)
      case biases.Reset():
        self._reset(bias, first)
      case biases.Disentangled():
        self._disentangled(bias, first)
      case _:
        raise NotImplementedError(
          f"kernels know no bias of type {type(bias).__name__}"
        )

  def _add(self, name, value) -> None:
    before = self.found.get(name)
    self.found[name] = value if before is None else before + value

  def _by_distance(self, name, value, bias, first) -> None:
    if first is None:
      self._outside = type(bias).__name__
      self._check_outside()
    self._add(name, value)

  def _check_outside(self) -> None:
    if self._outside is not None and "theta" in self.found:
      raise NotImplementedError(
        f"kernels cannot add {self._outside} outside of a Reset, which "
        "replaces all that depends on distance"
      )

  def _untied(self, bias, first) -> None:
    if self.static.scale == 0.0:
      raise NotImplementedError("kernels need a scale other than 0 for Untied")
    query, key = bias.query, bias.key
    if first is not None:
      query, key = (
        jnp.where((at != 0)[:, :, None, None], 0.0, x)
        for at, x in zip(first, (query, key), strict=True)
      )
    self.untied.append((_wide(query) / self.static.scale, key))

  def _dense(self, bias, first) -> None:
    array = bias.array
    if first is not None:
      at_query, at_key = (at != 0 for at in first)
      at_first = at_query[:, None, :, None] | at_key[:, None, None, :]
      array = jnp.where(at_first, 0.0, array)
    self._add("dense", array)

  def _reset(self, bias, first) -> None:
    if first is not None or "theta" in self.found:
      raise NotImplementedError("kernels can replace positions by one Reset")
    self.found["theta"] = _wide(bias.theta)
    self.found["query_first"] = (bias.query_first != 0).astype(jnp.int32)
    self.found["key_first"] = (bias.key_first != 0).astype(jnp.int32)
    self._check_outside()
    self.take(bias.bias, (bias.query_first, bias.key_first))

  def _disentangled(self, bias, first) -> None:
    if first is not None:
      raise NotImplementedError("kernels cannot reset Disentangled scores")
    for name in ("c2p", "p2c"):
      table, buckets = getattr(bias, name), getattr(bias, f"{name}_buckets")
      if table is None:
        continue
      if name in self.found:
        raise NotImplementedError(f"kernels can add one {name} term")
      biases.check_distances(name, buckets.shape[0], self.queries, self.keys)
      self.found[name] = table
      self.found[f"{name}_buckets"] = jnp.asarray(buckets, jnp.int32)

  def widened(self, query, key, value):
    """Query, key and value with the channels of untied positions."""
    if not self.untied:
      return query, key, value
    heads = query.shape[2]
    if key.shape[2] != heads:
      key, value = (
        jnp.repeat(x, heads // x.shape[2], axis=2) for x in (key, value)
      )
    for more_query, more_key in self.untied:
      query, key = _joined(query, more_query), _joined(key, more_key)
    return query, key, value


def _joined(x, more):
  more = jnp.broadcast_to(more, (*x.shape[:-1], more.shape[-1]))
  return jnp.concatenate([x, more.astype(x.dtype)], axis=-1)


def _wide(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
