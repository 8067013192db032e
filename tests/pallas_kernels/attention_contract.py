"""What every implementation of attention must give: one class of tests.

A backend's test file derives from `AttentionContract` and names itself:

  class TestTriton(AttentionContract):
    implementation = "triton:interpret"

Cases combine many features each. The fast ones run always; those marked slow
cover every pair of levels of all features.
"""

import dataclasses
import functools
import itertools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import flash_attention, reference
from tests.pallas_kernels.attention_oracle import Oracle

# Relative RMS errors against float64.
FLOAT32 = 3e-6
# Of 16 bits: beside twice the error of the reference in the same precision.
ROUNDING = 5e-4
BUCKETS = 16  # of the disentangled tables
# Gradients of so few numbers that one draw's rounding is luck: in 16 bits
# their error is that over several gradients of the output.
FEW = ("slopes", "theta", "table", "toeplitz")
DRAWS = 8


@dataclasses.dataclass(frozen=True)
class Case:
  """A combination of features.

  Attributes:
    queries: number of queries.
    keys: number of keys.
    heads: heads of the queries.
    key_heads: heads of keys and values.
    head_dim: channels of query and key.
    value_dim: channels of value.
    segments: 'none'; 'packed': odd documents, then padding; 'padded': one
      document a row; 'empty': packed, the last row all padding; 'mixed': ids
      in no order, padding between.
    bias: names out of alibi, buckets, causal_buckets, toeplitz, untied,
      reset (around those before it), dense_1h, dense_b1, dense_bh, c2p, p2c.
    causal: keys after the query are hidden.
    window: (before, after) or None.
    dropout: rate.
    soft_cap: or None.
    query_offset: place of the first query.
    scaled: factor of 1 / sqrt(head_dim) that makes the scale.
    nan: NaN stands at padding.
  """

  queries: int = 70
  keys: int = 70
  heads: int = 2
  key_heads: int = 2
  head_dim: int = 32
  value_dim: int = 32
  segments: str = "none"
  bias: tuple[str, ...] = ()
  causal: bool = False
  window: tuple[int, int] | None = None
  dropout: float = 0.0
  soft_cap: float | None = None
  query_offset: int = 0
  scaled: float = 1.0
  nan: bool = False
  batch: int = 2

  @property
  def scale(self) -> float:
    """Factor of the dot products."""
    return self.scaled / math.sqrt(self.head_dim)

  def t5(self):
    """(buckets, max_distance, bidirectional)."""
    return (16, 40, True) if "buckets" in self.bias else (8, 30, False)

  def segment_ids(self):
    """([batch, queries], [batch, keys]) int32, or (None, None)."""
    if self.segments == "none":
      return None, None
    key_ids = _ids(self, self.keys)
    place = np.arange(self.queries) + self.query_offset
    return key_ids[:, np.clip(place, 0, self.keys - 1)], key_ids

  def firsts(self):
    """([1 or batch, queries], [1 or batch, keys]) int32: first tokens."""
    ids = self.segment_ids()
    if ids[0] is None:
      ids = (np.ones((1, n), np.int32) for n in (self.queries, self.keys))
    return tuple(
      np.diff(x, axis=1, prepend=-1).astype(bool).astype(np.int32) for x in ids
    )

  def table_buckets(self, name):
    """[queries + keys - 1] int32 of 'c2p' or 'p2c'."""
    return biases.disentangled_buckets(
      self.queries,
      self.keys,
      span=BUCKETS // 2,
      buckets=BUCKETS // 2,
      max_distance=48,
      query_offset=self.query_offset,
      swapped=name == "p2c",
    )


def _ids(case, length):
  ids = np.zeros((case.batch, length), np.int32)
  if case.segments == "mixed":
    rng = np.random.default_rng(7)
    return rng.integers(0, 4, ids.shape).astype(np.int32)
  for row in range(case.batch):
    if case.segments == "padded":
      ids[row, : length - 1 - 12 * row] = 1
    else:
      places = np.arange(length - 5 - 2 * row)
      ends = np.array([17, 18, 49, 61]) + 3 * row
      ids[row, : len(places)] = 1 + np.searchsorted(ends, places, "right")
  if case.segments == "empty":
    ids[-1] = 0
  return ids


def arrays_of(case: Case, dtype) -> dict[str, np.ndarray]:
  """Floating inputs by name, float64, of numbers that `dtype` can hold."""
  rng = np.random.default_rng(len(repr(case)))
  batch, heads = case.batch, case.heads

  def draw(*shape, size=1.0):
    drawn = size * rng.standard_normal(shape)
    return np.asarray(jnp.asarray(drawn, dtype).astype(jnp.float32), np.float64)

  found = dict(
    query=draw(batch, case.queries, heads, case.head_dim),
    key=draw(batch, case.keys, case.key_heads, case.head_dim),
    value=draw(batch, case.keys, case.key_heads, case.value_dim),
  )
  dense = {
    "dense_1h": (1, heads),
    "dense_b1": (batch, 1),
    "dense_bh": (batch, heads),
  }
  for name in case.bias:
    if name == "alibi":
      found["slopes"] = np.float64(biases.alibi_slopes(heads))
    elif name.endswith("buckets"):
      found["table"] = draw(case.t5()[0], heads)
    elif name == "toeplitz":
      found["toeplitz"] = draw(heads, case.queries + case.keys - 1)
    elif name == "untied":
      # Its factor is kept in float32, as the docstring of Untied advises.
      found["untied_query"] = draw(1, case.queries, heads, 24) * np.float32(
        case.scale
      )
      found["untied_key"] = draw(batch, case.keys, heads, 24)
    elif name == "reset":
      found["theta"] = draw(2, heads)
    elif name in dense:
      found["dense"] = draw(*dense[name], case.queries, case.keys)
    else:
      length = case.queries if name == "c2p" else case.keys
      found[name] = draw(batch, length, heads, BUCKETS)
  return found


def _cast(name, x, dtype):
  """Contents in `dtype`; what is learned and small stays in float32."""
  small = ("slopes", "table", "toeplitz", "theta", "untied_query")
  return jnp.asarray(x, jnp.float32 if name in small else dtype)


def bias_of(case: Case, arrays):
  """The tree of biases of a case."""
  terms = []
  for name in case.bias:
    if name == "alibi":
      terms.append(biases.Alibi(arrays["slopes"]))
    elif name.endswith("buckets"):
      _, longest, both = case.t5()
      terms.append(
        biases.Buckets(
          arrays["table"], bidirectional=both, max_distance=longest
        )
      )
    elif name == "toeplitz":
      terms.append(biases.Toeplitz(arrays["toeplitz"]))
    elif name == "untied":
      terms.append(biases.Untied(arrays["untied_query"], arrays["untied_key"]))
    elif name == "reset":
      inner = functools.reduce(biases.add, terms, None)
      terms = [biases.Reset(inner, arrays["theta"], *case.firsts())]
    elif name.startswith("dense"):
      terms.append(biases.Dense(arrays["dense"]))
  tables = [arrays.get(name) for name in ("c2p", "p2c")]
  if any(table is not None for table in tables):
    buckets = [
      None if table is None else case.table_buckets(name)
      for name, table in zip(("c2p", "p2c"), tables)
    ]
    terms.append(biases.Disentangled(*tables, *buckets))
  return functools.reduce(biases.add, terms, None)


def options_of(case: Case) -> dict:
  """Arguments of `reference.attention` besides arrays and bias."""
  query_segments, key_segments = case.segment_ids()
  return dict(
    query_segments=query_segments,
    key_segments=key_segments,
    query_offset=case.query_offset,
    causal=case.causal,
    window=case.window,
    scale=case.scale,
    soft_cap=case.soft_cap,
    dropout_rate=case.dropout,
    dropout_key=jax.random.key(5) if case.dropout else None,
  )


def run(attend, case: Case, dtype, draws: int = 1):
  """Of each draw (output, gradients by name, the cotangent), float64 arrays.

  Args:
    attend: with the arguments of `reference.attention`.
    case: what to compute.
    dtype: of query, key and value.
    draws: of gradients of the output.
  """
  arrays = arrays_of(case, dtype)
  inputs = {name: _cast(name, x, dtype) for name, x in arrays.items()}
  query_segments, key_segments = case.segment_ids()
  if case.nan:
    for name in ("query", "key", "value"):
      ids = query_segments if name == "query" else key_segments
      inputs[name] = jnp.where(
        (ids > 0)[:, :, None, None], inputs[name], jnp.nan
      )

  def both(inputs, grad_out):
    def out(inputs):
      return attend(
        inputs["query"],
        inputs["key"],
        inputs["value"],
        bias=bias_of(case, inputs),
        **options_of(case),
      )

    found, pull = jax.vjp(out, inputs)
    return found, pull(grad_out)[0]

  wide = lambda x: np.asarray(x.astype(jnp.float32), np.float64)
  compiled, found = jax.jit(both), []
  for draw in range(draws):
    shape = (case.batch, case.queries, case.heads, case.value_dim)
    grad_out = np.random.default_rng(9 + draw).standard_normal(shape)
    grad_out = jnp.asarray(grad_out, dtype)
    with jax.default_matmul_precision("highest"):
      out, gradients = compiled(inputs, grad_out)
    assert out.dtype == dtype
    assert {n: g.shape for n, g in gradients.items()} == {
      n: x.shape for n, x in arrays.items()
    }
    found.append(jax.tree.map(wide, (out, gradients, grad_out)))
  return found


def errors(attend, case: Case, dtype) -> dict[str, float]:
  """Relative RMS error of the output ('out') and of each gradient."""
  few = dtype != jnp.float32 and set(FEW) & arrays_of(case, dtype).keys()
  found = []
  for out, gradients, grad_out in run(attend, case, dtype, DRAWS if few else 1):
    oracle = oracle_of(case, dtype, grad_out.tobytes())
    found.append({"out": (out, oracle.out)})
    for name, gradient in gradients.items():
      found[-1][name] = (gradient, oracle.gradients[name])
  return {
    name: _error(*map(np.stack, zip(*(draw[name] for draw in found))))
    for name in found[0]
  }


@functools.lru_cache(maxsize=2 * DRAWS)
def oracle_of(case: Case, dtype, grad_out: bytes) -> Oracle:
  """The exact answer to a case."""
  seeds = None
  if case.dropout:
    key = options_of(case)["dropout_key"]
    seeds = np.asarray(jax.random.bits(key, (2,), jnp.uint32))
  shape = (case.batch, case.queries, case.heads, case.value_dim)
  grad_out = np.frombuffer(grad_out).reshape(shape)
  return Oracle(case, arrays_of(case, dtype), seeds, grad_out)


def _error(found, expected) -> float:
  assert np.isfinite(found).all()
  away = np.sqrt(np.mean((found - expected) ** 2))
  size = np.sqrt(np.mean(expected**2))
  return float(away / size) if size > 0 else float(away)


@functools.cache
def reference_errors(case: Case, dtype) -> dict[str, float]:
  """Those of `reference.attention`."""
  return errors(reference.attention, case, dtype)


FAST = {
  "plain": Case(head_dim=64, value_dim=64),
  "causal, fewer key heads, cap, other value width": Case(
    queries=97,
    keys=97,
    heads=4,
    key_heads=1,
    value_dim=64,
    causal=True,
    soft_cap=2.0,
    scaled=0.7,
  ),
  "packed window, alibi, dropout, NaN": Case(
    queries=101,
    keys=101,
    head_dim=64,
    value_dim=64,
    segments="packed",
    window=(19, 8),
    bias=("alibi",),
    dropout=0.2,
    nan=True,
  ),
  "buckets, mixed segments, 72 channels": Case(
    head_dim=72, value_dim=72, segments="mixed", bias=("buckets",), nan=True
  ),
  "dense of heads, toeplitz, fewer queries, causal": Case(
    queries=37,
    keys=90,
    query_offset=53,
    causal=True,
    bias=("dense_1h", "toeplitz"),
  ),
  "dense of rows, cap, packed, fewer key heads": Case(
    heads=4,
    key_heads=2,
    soft_cap=3.0,
    segments="packed",
    bias=("dense_b1",),
    nan=True,
  ),
  "dense of all, alibi, dropout, a row of padding": Case(
    queries=83,
    keys=83,
    head_dim=128,
    value_dim=128,
    dropout=0.1,
    segments="empty",
    bias=("dense_bh", "alibi"),
  ),
  "tupe, packed": Case(
    queries=75,
    keys=75,
    head_dim=64,
    value_dim=64,
    segments="packed",
    scaled=math.sqrt(0.5),
    bias=("untied", "buckets", "reset"),
    dropout=0.1,
    nan=True,
  ),
  "deberta, padded": Case(
    segments="padded",
    scaled=math.sqrt(1 / 3),
    bias=("c2p", "p2c"),
    dropout=0.1,
    nan=True,
  ),
  "c2p, more keys, window": Case(
    queries=65,
    keys=110,
    query_offset=31,
    window=(40, 0),
    bias=("c2p",),
    heads=4,
    key_heads=2,
  ),
  "one query among cached keys": Case(
    queries=1,
    keys=70,
    query_offset=60,
    causal=True,
    bias=("alibi",),
    heads=4,
    key_heads=4,
  ),
  "no key in reach of some": Case(
    queries=70, keys=40, window=(10, 10), query_offset=-8, bias=("alibi",)
  ),
}
FAST_IN_BFLOAT16 = ("packed window, alibi, dropout, NaN",)
_LEVELS = dict(
  shape=[
    dict(),
    dict(queries=129, keys=129, heads=4, key_heads=2),
    dict(queries=45, keys=100, query_offset=55, heads=4, key_heads=1),
    dict(queries=66, keys=33, query_offset=-20),
  ],
  width=[
    dict(),
    dict(head_dim=64, value_dim=64),
    dict(head_dim=72, value_dim=40),
    dict(head_dim=128, value_dim=64, scaled=0.6),
  ],
  segments=[
    dict(segments="none"),
    dict(segments="packed", nan=True),
    dict(segments="padded"),
    dict(segments="empty", nan=True),
    dict(segments="mixed", nan=True),
  ],
  rule=[
    dict(),
    dict(causal=True),
    dict(window=(13, 5)),
    dict(causal=True, window=(30, 0)),
  ],
  dropout=[dict(), dict(dropout=0.15)],
  cap=[dict(), dict(soft_cap=2.5)],
  bias=[
    dict(bias=names)
    for names in (
      (),
      ("alibi",),
      ("buckets", "alibi"),
      ("causal_buckets", "dense_b1"),
      ("toeplitz", "dense_1h"),
      ("dense_bh",),
      ("untied", "alibi"),
      ("untied", "buckets", "reset", "dense_1h"),
      ("alibi", "toeplitz", "reset"),
      ("reset", "c2p"),
      ("c2p", "p2c", "untied"),
      ("p2c", "alibi"),
    )
  ],
)


def pairwise(levels: dict[str, list[dict]], seed: int = 0) -> dict[str, Case]:
  """Cases that hold every pair of levels of any two features."""
  rng = random.Random(seed)
  names = list(levels)
  open_pairs = {
    (a, x, b, y)
    for a, b in itertools.combinations(names, 2)
    for x in range(len(levels[a]))
    for y in range(len(levels[b]))
  }
  cases = {}
  pairs = lambda pick: {
    (a, pick[a], b, pick[b]) for a, b in itertools.combinations(names, 2)
  }
  while open_pairs:
    a, x, b, y = min(open_pairs)
    best = None
    for _ in range(40):
      pick = {name: rng.randrange(len(levels[name])) for name in names}
      pick |= {a: x, b: y}
      new = len(pairs(pick) & open_pairs)
      if best is None or new > best[0]:
        best = (new, pick)
    pick = best[1]
    open_pairs -= pairs(pick)
    chosen = {}
    for name in names:
      chosen |= levels[name][pick[name]]
    label = "-".join(str(pick[name]) for name in names)
    cases[f"pair {label}"] = Case(**chosen)
  return cases


SLOW = pairwise(_LEVELS)
CASES = FAST | SLOW


def _parameters():
  for name in CASES:
    for dtype in ("float32", "bfloat16"):
      fast = name in FAST and (dtype == "float32" or name in FAST_IN_BFLOAT16)
      marks = () if fast else (pytest.mark.slow,)
      yield pytest.param(name, dtype, marks=marks)


class AttentionContract:
  """Derive from it, and name an implementation.

  Attributes:
    implementation: of `flash_attention`.
    dtypes: that it takes; others must be refused.
  """

  implementation: str
  dtypes: tuple[str, ...] = ("float32", "bfloat16")

  def attend(self, query, key, value, *, query_segments, **options):
    """Arguments of `reference.attention`; override for a bare backend."""
    return flash_attention(
      query,
      key,
      value,
      segments=query_segments,
      implementation=self.implementation,
      **options,
    )

  def refuses(self, case: Case, dtype: str) -> str | None:
    """What the refusal of this case says, or None where it must run."""
    del case
    return None if dtype in self.dtypes else dtype

  @pytest.mark.parametrize(("name", "dtype"), list(_parameters()))
  def test_output_and_gradients(self, name, dtype):
    """Against float64, each output and each gradient on its own."""
    case = CASES[name]
    reason = self.refuses(case, dtype)
    if reason is not None:
      with pytest.raises(NotImplementedError, match=reason):
        run(self.attend, case, jnp.dtype(dtype))
      return
    found = errors(self.attend, case, jnp.dtype(dtype))
    bounds = dict.fromkeys(found, FLOAT32)
    if dtype != "float32":
      there = reference_errors(case, jnp.dtype(dtype))
      bounds = {n: 2 * error + ROUNDING for n, error in there.items()}
    over = {n: (e, bounds[n]) for n, e in found.items() if not e <= bounds[n]}
    assert not over, f"errors and bounds: {over}"
