"""Shapes, data and contenders of `benchmarks/kernels.py`.

A contender is `make(direction) -> (function, arguments)`, direction 'forward'
or 'both' (with the gradients of every floating argument); it raises what keeps
it from running.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels import dynamic_convolution as convolution
from pallas_kernels import fft_convolution as fourier
from pallas_kernels import flash_attention as attention
from pallas_kernels import linear_attention as linear
from pallas_kernels.flash_attention import bias as biases

MEAN_DOCUMENT = 120  # tokens, of packed rows


@dataclasses.dataclass(frozen=True)
class Work:
  """The least that a case needs.

  Attributes:
    flops: of matrix products.
    bytes: read and written once.
  """

  flops: float
  bytes: float


@dataclasses.dataclass(frozen=True)
class Case:
  """One shape with one set of features."""

  name: str
  contenders: dict[str, Callable]
  forward: Work
  both: Work


def quick(dtype) -> list[Case]:
  """Shapes for a look on any device."""
  return [
    attention_case("plain", (2, 2, 128, 64), dtype),
    attention_case("packed", (2, 2, 128, 64), dtype, packed=32),
    attention_case("buckets", (2, 2, 128, 64), dtype, term="buckets"),
    attention_case("disentangled", (2, 2, 128, 64), dtype, term="disentangled"),
    convolution_case("convolution", (2, 64, 2, 64), 9, dtype),
    linear_case("linear", (2, 64, 2, 32), 64, dtype, packed=32),
    fourier_case("fourier", (2, 64, 8), dtype),
  ]


def paper_shapes(dtype) -> list[Case]:
  """[batch, heads, length, head_dim] of ../shared/kernels/KERNELS.md, C1."""
  base, wide = (8, 12, 512, 64), (64, 12, 512, 64)
  return [
    attention_case("plain-512", base, dtype),
    attention_case("plain-512-b64", wide, dtype),
    attention_case("plain-2048", (8, 12, 2048, 64), dtype),
    attention_case("plain-8192-d64", (8, 12, 8192, 64), dtype),
    attention_case("plain-8192-d128", (8, 12, 8192, 128), dtype),
    attention_case("packed-512", wide, dtype, packed=MEAN_DOCUMENT),
    attention_case("packed-8192", (4, 12, 8192, 64), dtype, packed=120),
    attention_case("alibi-512", wide, dtype, term="alibi"),
    attention_case("buckets-512", wide, dtype, term="buckets"),
    attention_case("dense-512", wide, dtype, term="dense"),
    attention_case("disentangled-512", base, dtype, term="disentangled"),
    convolution_case("convolution-512", (64, 512, 6, 64), 9, dtype),
    linear_case("linear-512", (64, 512, 12, 64), 128, dtype, packed=120),
    linear_case("linear-8192", (4, 8192, 12, 64), 128, dtype, packed=120),
    fourier_case("fourier-1024", (64, 1024, 768), dtype),
    fourier_case("fourier-4096", (16, 4096, 768), dtype),
  ]


def attention_case(name, shape, dtype, *, packed=0, term=None) -> Case:
  """Attention over [batch, heads, length, head_dim].

  Args:
    name: of the case.
    shape: see above.
    dtype: of query, key and value.
    packed: mean tokens of a document where rows are packed, or 0.
    term: a trainable term of the scores, a key of TERMS, or None.
  """
  batch, heads, length, dim = shape
  keys = jax.random.split(jax.random.key(0), 5)
  qkv = [
    jax.random.normal(key, (batch, length, heads, dim), dtype)
    for key in keys[:3]
  ]
  segments = _segments(batch, length, packed) if packed else None
  extra = TERMS[term](keys[3], shape, dtype) if term else None
  pairs = _pairs(segments, batch, length)
  element = jnp.dtype(dtype).itemsize
  flops = 4.0 * heads * dim * pairs
  moved = 4.0 * batch * length * heads * dim * element
  contenders = {
    f"jaxlm:{implementation}": _ours(qkv, extra, segments, implementation)
    for implementation in _compiled(attention.implementations())
  }
  contenders["jaxlm (chosen)"] = _ours(qkv, extra, segments, None)
  for implementation in ("xla", "cudnn"):
    contenders[f"jax.nn:{implementation}"] = _stock(
      qkv, extra, segments, implementation
    )
  contenders["jax Pallas"] = _in_tree(qkv, extra, segments)
  contenders["torch SDPA"] = _torch(shape, dtype, extra, segments)
  return Case(
    name,
    contenders,
    forward=Work(flops, moved),
    both=Work(3.5 * flops, 3.0 * moved),
  )


def convolution_case(name, shape, width, dtype) -> Case:
  """ConvBERT's dynamic convolution over [batch, length, heads, head_dim]."""
  batch, length, heads, dim = shape
  keys = jax.random.split(jax.random.key(0), 2)
  values = jax.random.normal(keys[0], shape, dtype)
  logits = jax.random.normal(keys[1], (batch, length, heads, width), dtype)

  def run(implementation, values, logits):
    return convolution.dynamic_convolution(
      values, logits, implementation=implementation
    )

  element = jnp.dtype(dtype).itemsize
  moved = batch * length * heads * element
  return Case(
    name,
    _each(convolution, run, (values, logits)),
    forward=Work(0.0, moved * (2 * dim + width)),
    both=Work(0.0, moved * (2 * dim + width) + moved * (3 * dim + 2 * width)),
  )


def linear_case(name, shape, features, dtype, *, packed) -> Case:
  """Linear attention over [batch, length, heads, head_dim], packed rows.

  Its work is that of the states alone, which no form can do without.
  """
  batch, length, heads, dim = shape
  keys = jax.random.split(jax.random.key(0), 3)
  wide = (*shape[:3], features)
  maps = [
    jnp.exp(jax.random.normal(key, wide)).astype(dtype) for key in keys[:2]
  ]
  arrays = (*maps, jax.random.normal(keys[2], shape, dtype))
  segments = _segments(batch, length, packed)

  def run(implementation, *arrays):
    return linear.linear_attention(
      *arrays, segments=segments, implementation=implementation
    )

  element = jnp.dtype(dtype).itemsize
  rows = batch * length * heads
  moved = 2.0 * rows * (features + dim) * element
  flops = 4.0 * rows * features * dim
  return Case(
    name,
    _each(linear, run, arrays),
    forward=Work(flops, moved),
    both=Work(4.0 * flops, 3.0 * moved),
  )


def fourier_case(name, shape, dtype) -> Case:
  """Long convolution over [batch, length, channels], causal, both gates.

  Its work is its bytes: how many products there are is the algorithm's.
  """
  keys = jax.random.split(jax.random.key(0), 4)
  x, gate_in, gate_out = (
    jax.random.normal(key, shape, dtype) for key in keys[:3]
  )
  filter = jax.random.normal(keys[3], shape[1:]) / math.sqrt(shape[1])

  def run(implementation, x, filter, gate_in, gate_out):
    return fourier.fft_convolution(
      x,
      filter,
      gate_in=gate_in,
      gate_out=gate_out,
      implementation=implementation,
    )

  each = float(x.size * x.dtype.itemsize)
  return Case(
    name,
    _each(fourier, run, (x, filter, gate_in, gate_out)),
    forward=Work(0.0, 4.0 * each),
    both=Work(0.0, 11.0 * each),
  )


def _each(op, run: Callable, arrays) -> dict[str, Callable]:
  """Contenders: every implementation of an op, and the one that is chosen."""

  def make(implementation):
    def contender(direction):
      chosen = functools.partial(run, implementation)
      return _differentiated(chosen, direction), arrays

    return contender

  names = _compiled(op.implementations())
  found = {f"jaxlm:{name}": make(name) for name in names}
  return found | {"jaxlm (chosen)": make(None)}


def _compiled(names) -> list[str]:
  """Without the interpreted ones, whose time says nothing."""
  return [name for name in names if not name.endswith(":interpret")]


def _alibi(key, shape, dtype):
  del key, dtype
  return biases.Alibi(biases.alibi_slopes(shape[1]))


def _buckets(key, shape, dtype):
  del dtype
  return biases.Buckets(jax.random.normal(key, (32, shape[1])))


def _dense(key, shape, dtype):
  _, heads, length, _ = shape
  return biases.Dense(jax.random.normal(key, (1, heads, length, length), dtype))


def _disentangled(key, shape, dtype):
  """DeBERTaV3's: 512 positions in buckets of 256."""
  batch, heads, length, _ = shape
  first, second = jax.random.split(key)
  buckets = jnp.clip(jnp.arange(1 - length, length) + 256, 0, 511)
  table = (batch, length, heads, 512)
  return biases.Disentangled(
    c2p=jax.random.normal(first, table, dtype),
    p2c=jax.random.normal(second, table, dtype),
    c2p_buckets=buckets.astype(jnp.int32),
    p2c_buckets=buckets.astype(jnp.int32),
  )


TERMS = {
  "alibi": _alibi,
  "buckets": _buckets,
  "dense": _dense,
  "disentangled": _disentangled,
}


def _ours(qkv, extra, segments, implementation):
  def contender(direction):
    def run(query, key, value, extra):
      return attention.flash_attention(
        query,
        key,
        value,
        bias=extra,
        segments=segments,
        implementation=implementation,
      )

    return _differentiated(run, direction), (*qkv, extra)

  return contender


def _stock(qkv, extra, segments, implementation):
  """jax.nn's op; a term becomes a dense bias inside, with its gradient."""

  def contender(direction):
    length = qkv[0].shape[1]

    def run(query, key, value, extra):
      index = jnp.arange(length)
      bias = None
      if extra is not None:
        bias = extra.dense(index, index).astype(query.dtype)
      mask = None
      if segments is not None:
        mask = (segments[:, :, None] == segments[:, None, :])[:, None]
      return jax.nn.dot_product_attention(
        query, key, value, bias, mask, implementation=implementation
      )

    return _differentiated(run, direction), (*qkv, extra)

  return contender


def _in_tree(qkv, extra, segments):
  """jax's own Pallas attention of the platform."""

  def contender(direction):
    if extra is not None:
      raise NotImplementedError("takes no bias with the same gradient")
    scale = 1.0 / math.sqrt(qkv[0].shape[-1])
    if jax.default_backend() == "gpu":
      from jax.experimental.pallas.ops.gpu import attention as gpu

      def run(query, key, value):
        return gpu.mha(query, key, value, segments, sm_scale=scale)

    elif jax.default_backend() == "tpu":
      from jax.experimental.pallas.ops.tpu import flash_attention as tpu

      ids = None if segments is None else tpu.SegmentIds(segments, segments)

      def run(query, key, value):
        moved = [jnp.moveaxis(x, 1, 2) for x in (query, key, value)]
        out = tpu.flash_attention(*moved, segment_ids=ids, sm_scale=scale)
        return jnp.moveaxis(out, 1, 2)

    else:
      raise NotImplementedError("runs on GPU and TPU")
    return _differentiated(run, direction), tuple(qkv)

  return contender


def _torch(shape, dtype, extra, segments):
  """PyTorch's op on [batch, heads, length, head_dim]."""

  def contender(direction):
    import torch

    if not torch.cuda.is_available():
      raise NotImplementedError("torch sees no GPU")
    kind = getattr(torch, jnp.dtype(dtype).name)
    leaves = [
      torch.randn(shape, device="cuda", dtype=kind, requires_grad=True)
      for _ in range(3)
    ]
    mask = _torch_mask(extra, segments, shape, kind)

    def run(*tensors):
      with torch.set_grad_enabled(direction == "both"):
        out = torch.nn.functional.scaled_dot_product_attention(
          *tensors, attn_mask=mask
        )
      if direction == "both":
        for leaf in (*tensors, mask):
          if leaf is not None and leaf.requires_grad:
            leaf.grad = None
        out.backward(torch.ones_like(out))
      return _TorchResult()

    return run, tuple(leaves)

  return contender


def _torch_mask(extra, segments, shape, kind):
  """The bias or the mask as a tensor, dense as torch wants it."""
  import torch

  if extra is not None:
    if isinstance(extra, biases.Disentangled):
      raise NotImplementedError("has no disentangled terms")
    index = jnp.arange(shape[2])
    dense = np.asarray(extra.dense(index, index).astype(jnp.float32))
    tensor = torch.tensor(dense, device="cuda", dtype=kind)
    return tensor.requires_grad_(not isinstance(extra, biases.Alibi))
  if segments is None:
    return None
  same = np.asarray(segments[:, :, None] == segments[:, None, :])[:, None]
  return torch.tensor(same, device="cuda")


class _TorchResult:
  def wait(self):
    import torch

    torch.cuda.synchronize()


def torch_version() -> dict:
  """{'torch': version} where it is installed."""
  try:
    import torch
  except ImportError:
    return {}
  return {"torch": torch.__version__}


def _differentiated(run: Callable, direction: str) -> Callable:
  """`run` compiled, or its value and all gradients for a fixed cotangent."""
  if direction == "forward":
    return jax.jit(run)

  def both(*arguments):
    out, pullback = jax.vjp(run, *arguments)
    return out, pullback(out)  # as random as the output

  return jax.jit(both)


def _segments(batch: int, length: int, mean: int) -> jax.Array:
  """[batch, length] ids of documents of random lengths around `mean`."""
  generator = np.random.default_rng(0)
  rows = []
  for _ in range(batch):
    lengths = generator.geometric(1.0 / mean, size=4 * length // mean + 8)
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)[:length]
    ids = np.pad(ids, (0, length - len(ids)))
    rows.append(ids)
  return jnp.asarray(np.stack(rows), jnp.int32)


def _pairs(segments, batch: int, length: int) -> float:
  """Visible (query, key) pairs."""
  if segments is None:
    return float(batch) * length * length
  ids = np.asarray(segments)
  return float(
    sum((np.bincount(row[row > 0]).astype(float) ** 2).sum() for row in ids)
  )
