"""The kernels that are compiled for every target, with combined features.

Each case is one program, forward and backward. Few of them, each with many
features at once: what a feature costs alone is for `tune` and benchmarks.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

# What multiplies bfloat16 matrices on each GPU.
_PRODUCTS = {"h200": "HGMMA", "a100": "HMMA"}
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
  """

  name: str
  targets: tuple[str, ...]
  build: Callable
  products: bool = True

  def product_of(self, target: str) -> str | None:
    """The instruction that multiplies matrices on a GPU; None: any."""
    return _PRODUCTS.get(target) if self.products else None


def everything() -> dict[str, Case]:
  """name -> case."""
  cases = [*_attention_cases(), *_convolution_cases()]
  return {case.name: case for case in cases}


def runs() -> list[tuple[str, str]]:
  """(name of a case, target), all that are compiled."""
  return [
    (case.name, target)
    for case in everything().values()
    for target in case.targets
  ]


def with_gradients(function: Callable) -> Callable:
  """(inputs, rest, cotangent) -> (output, gradients of the inputs)."""

  def run(inputs, rest, cotangent):
    out, pull = jax.vjp(lambda inputs: function(inputs, rest), inputs)
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
    head_dim: channels of a head.
    term: a key of `_BIASES`, or None.
    segments: whether rows are packed.
    dropout_rate: of probabilities.
    **options: for `flash_attention`.
  """
  from pallas_kernels.flash_attention import flash_attention

  wide = lambda heads: _shape(batch, length, heads, head_dim, dtype=dtype)
  inputs = dict(query=wide(heads), key=wide(key_heads), value=wide(key_heads))
  if term is not None:
    make = functools.partial(_BIASES[term], batch, length, heads, head_dim)
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

  return with_gradients(run), (inputs, rest, inputs["query"])


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
  from pallas_kernels.dynamic_convolution import dynamic_convolution

  values = _shape(batch, length, heads, head_dim, dtype=dtype)
  logits = _shape(batch, length, heads, width, dtype=dtype)
  inputs = dict(values=values, logits=logits)
  rest = {}
  if segments:
    rest["segments"] = _shape(batch, length, dtype=jnp.int32)

  def run(inputs, rest):
    return dynamic_convolution(**inputs, **rest, implementation=implementation)

  return with_gradients(run), (inputs, rest, values)


def _alibi(batch, length, heads, head_dim, dtype):
  from pallas_kernels.flash_attention import bias

  return bias.Alibi(bias.alibi_slopes(heads))


def _buckets(batch, length, heads, head_dim, dtype):
  from pallas_kernels.flash_attention import bias

  return bias.Buckets(jnp.zeros((32, heads), jnp.float32))


def _dense(batch, length, heads, head_dim, dtype):
  from pallas_kernels.flash_attention import bias

  return bias.Dense(jnp.zeros((1, heads, length, length), dtype))


_BIASES = {"alibi": _alibi, "buckets": _buckets, "dense": _dense}


def _case(name, targets, make, products=True, **given) -> Case:
  implementation = name.split("/")[1]
  build = functools.partial(make, implementation, **given)
  return Case(name, targets, build, products)


def _attention_cases() -> list[Case]:
  return []


def _convolution_cases() -> list[Case]:
  return [
    # Bands are smaller than the 64 rows of an HGMMA.
    _case(
      "dynamic_convolution/triton/packed",
      ("h200", "a100"),
      convolution,
      products=False,
      segments=True,
    ),
  ]
