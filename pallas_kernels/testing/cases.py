"""The kernels that are compiled for every target, with combined features.

Each case is one program, forward and backward. Few of them, each with many
features at once: what a feature costs alone is for `tune` and benchmarks.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pallas_kernels import _compat
from pallas_kernels.dynamic_convolution import dynamic_convolution
from pallas_kernels.fft_convolution import fft_convolution
from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import flash_attention
from pallas_kernels.linear_attention import linear_attention

# What multiplies bfloat16 matrices on each GPU.
_PRODUCTS = {"h200": "HGMMA", "a100": "HMMA"}
# Kernels of which the compiler of jax 0.12 spills a few registers, and that of
# 0.10 none: (case, kernel) -> bytes of stack.
_SPILLS_SINCE_0_12 = {
  ("flash_attention/triton/everything", "attention_forward"): 8,
  ("fft_convolution/triton/float32", "fft_convolution_backward_filter"): 32,
}
# Sums of what lies in memory.
_WITHOUT_PRODUCTS = ("attention_backward_c2p", "attention_backward_p2c")
_TPUS = ("v5e", "v6e", "v5p")


@dataclasses.dataclass(frozen=True)
class Case:
  """A program that holds kernels.

  Attributes:
    name: 'op/implementation/features'.
    targets: what it is compiled for.
    build: () -> (function, its arguments as shapes).
    products: whether its matrices must be multiplied by the newest
      tensor-core instruction of a GPU.
    without_products: names of kernels that multiply no matrices.
  """

  name: str
  targets: tuple[str, ...]
  build: Callable
  products: bool = True
  without_products: tuple[str, ...] = ()

  def stack_of(self, kernel: str) -> int:
    """Bytes of stack that a kernel on a GPU may spill into; most may not."""
    if _compat.version() < (0, 12):
      return 0
    return _SPILLS_SINCE_0_12.get((self.name, kernel), 0)

  def product_of(self, target: str, kernel: str) -> str | None:
    """What multiplies a kernel's matrices on a GPU; None: no opinion."""
    if not self.products or kernel in self.without_products:
      return None
    return _PRODUCTS.get(target)


def everything() -> dict[str, Case]:
  """name -> case."""
  cases = [*_attention_cases(), *_convolution_cases(), *_linear_cases()]
  cases += _long_cases()
  return {case.name: case for case in cases}


def runs() -> list[tuple[str, str]]:
  """(name of a case, target), all that are compiled."""
  return [
    (case.name, target)
    for case in everything().values()
    for target in case.targets
  ]


def with_gradients(function: Callable) -> Callable:
  """(inputs, rest, cotangent) -> (output, gradients of floating inputs)."""

  def run(inputs, rest, cotangent):
    leaves, tree = jax.tree.flatten(inputs)
    floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in leaves]

    def of_floating(given):
      given = iter(given)
      whole = [next(given) if f else x for f, x in zip(floating, leaves)]
      return function(jax.tree.unflatten(tree, whole), rest)

    out, pull = jax.vjp(of_floating, [x for f, x in zip(floating, leaves) if f])
    return out, pull(cotangent)[0]

  return run


def _shape(*sizes, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(sizes, dtype)


def attention(
  implementation: str,
  *,
  dtype="bfloat16",
  batch: int = 2,
  length: int = 512,
  heads: int = 4,
  key_heads: int = 4,
  head_dim: int = 64,
  value_dim: int | None = None,
  term: str | None = None,
  segments: bool = False,
  dropout_rate: float = 0.0,
  **options,
):
  """(function, shapes) of attention and its gradients.

  Args:
    implementation: of `flash_attention`.
    dtype: of query, key and value.
    batch: rows.
    length: queries and keys.
    heads: of queries.
    key_heads: of keys and values.
    head_dim: channels of query and key.
    value_dim: of value, or None for as many.
    term: a key of `BIASES`, or None.
    segments: whether rows are packed.
    dropout_rate: of probabilities.
    **options: for `flash_attention`.
  """
  wide = lambda heads, dim: _shape(batch, length, heads, dim, dtype=dtype)
  value_dim = value_dim or head_dim
  inputs = dict(
    query=wide(heads, head_dim),
    key=wide(key_heads, head_dim),
    value=wide(key_heads, value_dim),
  )
  if term is not None:
    make = functools.partial(BIASES[term], batch, length, heads, head_dim)
    inputs["bias"] = jax.eval_shape(lambda: make(jnp.dtype(dtype)))
  rest = {}
  if segments:
    rest["segments"] = _shape(batch, length, dtype=jnp.int32)
  if dropout_rate:
    rest["dropout_key"] = jax.eval_shape(lambda: jax.random.key(0))

  def run(inputs, rest):
    return flash_attention(
      **inputs,
      **rest,
      dropout_rate=dropout_rate,
      implementation=implementation,
      **options,
    )

  return with_gradients(run), (inputs, rest, wide(heads, value_dim))


def convolution(
  implementation: str,
  *,
  dtype="bfloat16",
  batch: int = 2,
  length: int = 512,
  heads: int = 6,
  head_dim: int = 64,
  width: int = 9,
  segments: bool = False,
):
  """(function, shapes) of dynamic convolution and its gradients."""
  values = _shape(batch, length, heads, head_dim, dtype=dtype)
  logits = _shape(batch, length, heads, width, dtype=dtype)
  inputs = dict(values=values, logits=logits)
  rest = {}
  if segments:
    rest["segments"] = _shape(batch, length, dtype=jnp.int32)

  def run(inputs, rest):
    return dynamic_convolution(**inputs, **rest, implementation=implementation)

  return with_gradients(run), (inputs, rest, values)


def long_convolution(
  implementation: str,
  *,
  dtype="bfloat16",
  batch: int = 4,
  length: int = 1024,
  channels: int = 64,
  taps: int | None = None,
  causal: bool = True,
  gated: bool = False,
):
  """(function, shapes) of long convolution and its gradients.

  Args:
    implementation: of `fft_convolution`.
    dtype: of all but the filter.
    batch: rows.
    length: of a row.
    channels: of a row.
    taps: of the filter to one side; None: as many as fit.
    causal: see `fft_convolution`.
    gated: with both gates and a skip.
  """
  taps = taps or length
  x = _shape(batch, length, channels, dtype=dtype)
  inputs = dict(x=x, filter=_shape(taps if causal else 2 * taps - 1, channels))
  if gated:
    inputs |= dict(gate_in=x, gate_out=x, skip=_shape(channels))

  def run(inputs, rest):
    return fft_convolution(
      **inputs, causal=causal, implementation=implementation
    )

  return with_gradients(run), (inputs, {}, x)


def linear(
  implementation: str,
  *,
  dtype="bfloat16",
  batch: int = 2,
  length: int = 512,
  heads: int = 4,
  features: int = 128,
  head_dim: int = 64,
  causal: bool = False,
  segments: bool = False,
):
  """(function, shapes) of linear attention and its gradients."""
  mapped = _shape(batch, length, heads, features, dtype=dtype)
  value = _shape(batch, length, heads, head_dim, dtype=dtype)
  inputs = dict(query_features=mapped, key_features=mapped, value=value)
  rest = {}
  if segments:
    rest["segments"] = _shape(batch, length, dtype=jnp.int32)

  def run(inputs, rest):
    return linear_attention(
      **inputs, **rest, causal=causal, implementation=implementation
    )

  return with_gradients(run), (inputs, rest, value)


def _alibi(batch, length, heads, head_dim, dtype):
  return biases.Alibi(biases.alibi_slopes(heads))


def _buckets(batch, length, heads, head_dim, dtype):
  return biases.Buckets(jnp.zeros((32, heads), jnp.float32))


def _dense(batch, length, heads, head_dim, dtype):
  return biases.Dense(jnp.zeros((1, heads, length, length), dtype))


def _tupe(batch, length, heads, head_dim, dtype):
  """TUPE-R: untied positions and buckets, but for first tokens."""
  position = jnp.zeros((1, length, heads, head_dim), jnp.float32)
  first = jnp.zeros((batch, length), jnp.int32)
  inner = biases.add(
    biases.Untied(position, position),
    _buckets(batch, length, heads, head_dim, dtype),
  )
  return biases.Reset(inner, jnp.zeros((2, heads), jnp.float32), first, first)


def _deberta(batch, length, heads, head_dim, dtype):
  """DeBERTa v3's terms: 256 buckets to each side."""
  table = jnp.zeros((batch, length, heads, 512), dtype)
  buckets = jnp.asarray(
    biases.disentangled_buckets(
      length, length, span=256, buckets=256, max_distance=512
    )
  )
  return biases.Disentangled(table, table, buckets, buckets)


def _everything(batch, length, heads, head_dim, dtype):
  """Every term that a kernel can add up, at once."""
  first = jnp.zeros((batch, length), jnp.int32)
  given = batch, length, heads, head_dim, dtype
  by_distance = biases.add(_alibi(*given), _buckets(*given))
  theta = jnp.zeros((2, heads), jnp.float32)
  reset = biases.Reset(by_distance, theta, first, first)
  return biases.add(biases.add(reset, _dense(*given)), _deberta(*given))


BIASES = {
  "alibi": _alibi,
  "buckets": _buckets,
  "dense": _dense,
  "tupe": _tupe,
  "deberta": _deberta,
  "everything": _everything,
}


def _case(name, targets, make, products=True, older=(), **given) -> Case:
  implementation = name.split("/")[1]
  build = functools.partial(make, implementation, **given)
  return Case(name, targets, build, products, (*_WITHOUT_PRODUCTS, *older))


# Together every feature, each beside others.
_ATTENTION = {
  "plain": dict(),
  "plain_128": dict(head_dim=128, length=1024),
  "packed": dict(segments=True, window=(64, 64), dropout_rate=0.1),
  "causal": dict(causal=True, key_heads=2, soft_cap=30.0, head_dim=128),
  "alibi": dict(term="alibi", segments=True, dropout_rate=0.1),
  "buckets": dict(term="buckets", segments=True, length=500),
  "dense": dict(term="dense", segments=True),
  "tupe": dict(term="tupe", segments=True, dropout_rate=0.1),
  "deberta": dict(term="deberta", segments=True, dropout_rate=0.1),
  "float32": dict(dtype="float32", segments=True, head_dim=32),
}


# What takes the most registers, on an H200. 64 rows of Hopper's instruction
# leave none for what else `older` kernels hold: they use Ampere's.
_EVERYTHING = dict(
  term="everything", segments=True, dropout_rate=0.1, soft_cap=30.0
)
_CROWDED = {
  "everything": _EVERYTHING,
  "everything_128": dict(
    head_dim=128,
    older=(
      "attention_backward_delta",
      "attention_backward_dense",
      "attention_backward_distance",
    ),
    **_EVERYTHING,
  ),
  "everything_float32": dict(
    dtype="float32", head_dim=128, products=False, **_EVERYTHING
  ),
  "alibi_256": dict(
    head_dim=256,
    term="alibi",
    segments=True,
    dropout_rate=0.1,
    older=("attention_backward_keys",),
  ),
}


# What Mosaic GPU computes of it.
_HOPPER = {
  "plain": dict(),
  "plain_128": dict(head_dim=128, length=1024, causal=True),
  "packed": dict(segments=True, window=(64, 64), key_heads=2),
  "alibi": dict(term="alibi", segments=True),
  "wide_value": dict(value_dim=128, length=500, term="alibi", segments=True),
  "narrow_value": dict(head_dim=128, value_dim=64, length=500, causal=True),
}


def _attention_cases() -> list[Case]:
  found = [
    _case(f"flash_attention/mosaic_gpu/{name}", ("h200",), attention, **given)
    for name, given in _HOPPER.items()
  ]
  found += [
    _case(f"flash_attention/triton/{name}", ("h200",), attention, **given)
    for name, given in _CROWDED.items()
  ]
  for feature, given in _ATTENTION.items():
    products = given.get("dtype") != "float32"
    few = feature in ("plain", "packed")
    for implementation, targets in (
      ("triton", ("h200", "a100") if few else ("h200",)),
      ("mosaic_tpu", _TPUS if few else _TPUS[:1]),
    ):
      name = f"flash_attention/{implementation}/{feature}"
      found.append(_case(name, targets, attention, products, **given))
  return found


def _convolution_cases() -> list[Case]:
  # Bands are smaller than the 64 rows of an HGMMA.
  make = functools.partial(_case, products=False, segments=True)
  return [
    make("dynamic_convolution/triton/packed", ("h200", "a100"), convolution),
    make("dynamic_convolution/mosaic_tpu/packed", _TPUS, convolution),
    make(
      "dynamic_convolution/triton/float32",
      ("h200",),
      convolution,
      dtype="float32",
      width=7,
    ),
  ]


_LINEAR = {
  "packed": dict(segments=True),
  "causal": dict(segments=True, causal=True, length=500),
  "float32": dict(dtype="float32", segments=True),
}


def _linear_cases() -> list[Case]:
  tpu = [
    _case(
      f"linear_attention/mosaic_tpu/{name}",
      _TPUS if name == "packed" else _TPUS[:1],
      linear,
      **given,
    )
    for name, given in _LINEAR.items()
  ]
  # Chunks are smaller than the 64 rows of an HGMMA, which would spill.
  return tpu + [
    _case(
      f"linear_attention/triton/{name}",
      ("h200", "a100") if name == "packed" else ("h200",),
      linear,
      products=False,
      **given,
    )
    for name, given in _LINEAR.items()
  ]


# Two sequences side by side, one on 4 warps, one on 8, one in float32.
_LONG = {
  "gated": dict(gated=True),
  "whole": dict(length=128, causal=False, gated=True),
  "long": dict(length=4096),
  "float32": dict(dtype="float32", length=2048, gated=True),
}


def _long_cases() -> list[Case]:
  return [
    _case(
      f"fft_convolution/triton/{name}", ("h200",), long_convolution, **given
    )
    for name, given in _LONG.items()
  ]
