"""Which tiles the tuner tries, for each op and kernel.

A space is a list of groups; one group holds the choices for one kernel of an
op, which do not depend on those of the others, so that groups are tuned one
after the other.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from pallas_kernels import _estimate


@dataclasses.dataclass(frozen=True)
class Group:
  """The choices for one kernel.

  Attributes:
    name: of the kernel's pass.
    kernels: beginnings of the names of the kernels that depend on it.
    choices: changes to the tile sizes, as plain data.
    elements: choice -> elements (scores, outputs) that a thread of a GPU or
      a TPU's core computes in one turn of the innermost loop.
    refuse: choice -> why it cannot fit, or None.
    only_timed: choice -> whether static figures say nothing about it.
  """

  name: str
  kernels: tuple[str, ...]
  choices: tuple[Mapping, ...]
  elements: Callable[[Mapping], float]
  refuse: Callable[[Mapping], str | None]
  only_timed: Callable[[Mapping], bool] = lambda choice: False


def spaces() -> dict[tuple[str, str], Callable]:
  """(op, implementation) -> (head_dim, dtype, fast_memory) -> groups."""
  return {
    ("flash_attention", "triton"): _attention_triton,
    ("flash_attention", "mosaic_tpu"): _attention_tpu,
    ("dynamic_convolution", "triton"): _convolution_triton,
    ("linear_attention", "triton"): _linear_triton,
    ("linear_attention", "mosaic_tpu"): _linear_tpu,
    ("fft_convolution", "triton"): _long_triton,
  }


def merged(base: Mapping, change: Mapping) -> dict:
  """`base` with the fields of `change`, at any depth."""
  out = dict(base)
  for name, value in change.items():
    inner = out.get(name)
    if isinstance(value, Mapping) and isinstance(inner, Mapping):
      value = merged(inner, value)
    out[name] = value
  return out


def _attention_triton(head_dim, dtype, fast_memory) -> list[Group]:
  sizes = _sizes(head_dim, dtype)
  launches = [
    dict(block_q=q, block_k=k, num_warps=warps, num_stages=stages)
    for q, k, warps, stages in itertools.product(
      (64, 128), (32, 64, 128), (4, 8), (1, 2, 3)
    )
  ]
  square = [each for each in launches if each["block_q"] == each["block_k"]]

  def group(field, kernels, launches, estimate):
    return Group(
      field,
      kernels,
      tuple({field: launch} for launch in launches),
      lambda choice: _per_thread(choice[field]),
      lambda choice: estimate(
        sizes, **choice[field], shared_memory=fast_memory
      ),
      # Loads in flight hide time, and cost instructions.
      lambda choice: choice[field]["num_stages"] != 2,
    )

  turned = [
    {**each, "block_q": each["block_k"], "block_k": each["block_q"]}
    for each in launches
  ]
  forward = _estimate.attention_forward_gpu
  backward = _estimate.attention_backward_gpu
  shared = ("attention_backward_dense", "attention_backward_distance")
  return [
    group("forward", ("attention_forward",), launches, forward),
    group("dq", ("attention_backward_queries",), launches, backward),
    group("dkv", ("attention_backward_keys",), turned, backward),
    group("shared", shared, square, backward),
  ]


def _attention_tpu(head_dim, dtype, fast_memory) -> list[Group]:
  del fast_memory  # Mosaic's own limit is far lower
  sizes = _sizes(head_dim, dtype)

  def group(name, kernels, query, key, backward):
    return Group(
      name,
      kernels,
      tuple(
        {query: q, key: k}
        for q, k in itertools.product((256, 512, 1024), repeat=2)
      ),
      lambda choice: choice[query] * choice[key],
      lambda choice: _estimate.attention_tpu(
        sizes, block_q=choice[query], block_k=choice[key], backward=backward
      ),
    )

  return [
    group("forward", ("flash_attention_forward",), "query", "key", False),
    group(
      "backward",
      ("flash_attention_backward", "flash_attention_dense_gradient"),
      "query_backward",
      "key_backward",
      True,
    ),
  ]


def _convolution_triton(head_dim, dtype, fast_memory) -> list[Group]:
  del dtype, fast_memory  # tiles are small
  fits = lambda choice: None

  def group(name, kernel, rows, sizes, warps):
    return Group(
      name,
      (kernel,),
      tuple(
        {rows: size, warps: count}
        for size, count in itertools.product(sizes, (1, 2, 4))
      ),
      lambda choice: choice[rows] * head_dim / (32 * choice[warps]),
      fits,
    )

  return [
    group(
      "forward", "dynamic_convolution_forward", "rows", (16, 32, 64), "warps"
    ),
    group(
      "backward",
      "dynamic_convolution_backward",
      "square",
      (32, 64),
      "backward_warps",
    ),
  ]


def _linear_triton(head_dim, dtype, fast_memory) -> list[Group]:
  del dtype, fast_memory  # registers are what is short: spills are refused
  widest = max(16, 1 << (head_dim - 1).bit_length())
  launches = itertools.product((16, 32, 64), (32, 64, 128), (64, 128), (4, 8))
  return [
    Group(
      "product",
      ("linear_attention",),
      tuple(
        dict(chunk=chunk, columns=columns, depth=depth, warps=warps)
        for chunk, columns, depth, warps in launches
        if columns <= widest
      ),
      lambda choice: (
        choice["chunk"]
        * min(choice["columns"], widest)
        / (32 * choice["warps"])
      ),
      lambda choice: None,
    )
  ]


def _linear_tpu(head_dim, dtype, fast_memory) -> list[Group]:
  del dtype, fast_memory
  return [
    Group(
      "product",
      ("linear_attention",),
      tuple(
        dict(chunk=chunk, heads=heads)
        for chunk, heads in itertools.product((128, 256, 512), (1, 2, 4, 8))
      ),
      lambda choice: choice["chunk"] * head_dim,
      lambda choice: None,
      # Heads of a step share what a step costs, and run the same bundles.
      lambda choice: choice["heads"] != 4,
    )
  ]


def _long_triton(head_dim, dtype, fast_memory) -> list[Group]:
  del head_dim, dtype, fast_memory
  return [
    Group(
      "all",
      ("fft_convolution",),
      tuple(dict(batch=rows) for rows in (4, 8, 16, 32, 64)),
      lambda choice: 1.0,
      lambda choice: None,
      # A program's rows share the filter, and run the same instructions.
      lambda choice: True,
    )
  ]


def _sizes(head_dim, dtype) -> _estimate.Attention:
  padded = max(16, 1 << (head_dim - 1).bit_length())
  return _estimate.Attention(padded, padded, jnp.dtype(dtype).itemsize)


def _per_thread(launch: Mapping) -> float:
  return launch["block_q"] * launch["block_k"] / (32 * launch["num_warps"])
