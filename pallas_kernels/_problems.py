"""What the tuner computes: one call of an op, with and without its kernel."""

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pallas_kernels import _dispatch, _spaces
from pallas_kernels.dynamic_convolution import triton as convolution_triton
from pallas_kernels.fft_convolution import api as long_api
from pallas_kernels.fft_convolution import triton as long_triton
from pallas_kernels.flash_attention import api
from pallas_kernels.flash_attention.mosaic_tpu import tiles as attention_tpu
from pallas_kernels.flash_attention.triton import blocks as attention_triton
from pallas_kernels.linear_attention import api as linear_api
from pallas_kernels.linear_attention import mosaic_tpu as linear_tpu
from pallas_kernels.linear_attention import triton as linear_triton
from pallas_kernels.testing import cases

_MEAN_DOCUMENT = 120  # tokens, of packed rows


@dataclasses.dataclass(frozen=True)
class Problem:
  """A call of an op and its gradients.

  Attributes:
    case: its key in tables.
    implementation: the kernel that is tuned.
    blocks: the kernel's own tile sizes, as plain data.
    groups: the choices of tile sizes.
    make: implementation -> (function, its arguments as shapes).
  """

  case: _dispatch.Case
  implementation: str
  blocks: Mapping
  groups: tuple[_spaces.Group, ...]
  make: Callable

  @property
  def args(self):
    """Shapes of the arguments."""
    return self.make(self.implementation)[1]

  def reference(self, *args):
    """The same in XLA's own code."""
    return self.make("reference")[0](*args)

  def function(self, blocks: Mapping, kind: str) -> Callable:
    """The kernel's function with these tile sizes, for a kind of device."""
    made, _ = self.make(self.implementation)

    def run(*args):
      with _table(self.case, self.implementation, blocks, kind):
        return made(*args)

    return run

  def data(self):
    """Random arguments; packed rows of documents of 120 tokens or so."""
    rng = np.random.default_rng(0)

    def draw(path, shape):
      if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
      if "segments" in jax.tree_util.keystr(path):
        starts = rng.random(shape.shape) < 1.0 / _MEAN_DOCUMENT
        return jnp.asarray(1 + np.cumsum(starts, axis=-1), shape.dtype)
      if jnp.issubdtype(shape.dtype, jnp.integer):
        return jnp.zeros(shape.shape, shape.dtype)
      return jnp.asarray(rng.standard_normal(shape.shape), shape.dtype)

    return jax.tree_util.tree_map_with_path(draw, self.args)


def add_arguments(parser) -> None:
  """What a case is, on the command line."""
  add = parser.add_argument
  add("--dtype", default="bfloat16")
  add("--batch", type=int, default=8)
  add("--length", type=int, default=512)
  add("--heads", type=int, default=12)
  add("--head-dim", type=int, default=64)
  add("--segments", action="store_true", help="packed rows")
  add("--causal", action="store_true", help="hide what comes later")
  add("--window", type=int, help="attention: keys seen to each side")
  add("--dropout", type=float, default=0.0, help="attention: rate")
  add("--term", choices=sorted(cases.BIASES), help="attention: a bias")
  add("--width", type=int, default=9, help="dynamic convolution: taps")
  add("--features", type=int, default=128, help="linear attention: of a map")


def make(options, implementation: str, fast_memory: int) -> Problem:
  """The problem of a command line.

  Args:
    options: with the fields of `add_arguments`, and `op`.
    implementation: the kernel that is tuned.
    fast_memory: bytes of a GPU block's shared memory.

  Raises:
    ValueError: there is no space of tiles for this op and kernel.
  """
  space = _spaces.spaces().get((options.op, implementation))
  if space is None:
    known = ", ".join(f"{op} {name}" for op, name in _spaces.spaces())
    raise ValueError(
      f"no tiles to try for {options.op} by '{implementation}'; for {known}"
    )
  groups = space(options.head_dim, options.dtype, fast_memory)
  case, blocks, make = _BUILD[options.op](options, implementation)
  return Problem(
    case, implementation, dataclasses.asdict(blocks), tuple(groups), make
  )


def _attention(options, implementation):
  window = None if options.window is None else (options.window,) * 2
  make = functools.partial(
    cases.attention,
    dtype=options.dtype,
    batch=options.batch,
    length=options.length,
    heads=options.heads,
    key_heads=options.heads,
    head_dim=options.head_dim,
    term=options.term,
    segments=options.segments,
    dropout_rate=options.dropout,
    causal=options.causal,
    window=window,
  )
  inputs, rest, _ = make("reference")[1]
  case = api.case_of(
    **inputs,
    query_segments=rest.get("segments"),
    causal=options.causal,
    window=window,
    dropout_rate=options.dropout,
  )
  if implementation == "mosaic_tpu":
    return case, attention_tpu.Blocks(), make
  blocks = attention_triton.default(
    head_dim=options.head_dim,
    dtype=jnp.dtype(options.dtype),
    terms=(options.term is not None) + (options.dropout > 0.0),
    queries=options.length,
    keys=options.length,
    interpret=False,
  )
  return case, blocks, make


def _convolution(options, implementation):
  make = functools.partial(
    cases.convolution,
    dtype=options.dtype,
    batch=options.batch,
    length=options.length,
    heads=options.heads,
    head_dim=options.head_dim,
    width=options.width,
    segments=options.segments,
  )
  case = _dispatch.Case(
    op=options.op,
    dtype=options.dtype,
    width=options.head_dim,
    length=options.length,
    features=frozenset({"segments"} if options.segments else ()),
  )
  blocks = convolution_triton.default_tiles(
    jnp.dtype(options.dtype), options.head_dim, options.width
  )
  return case, blocks, make


def _linear(options, implementation):
  make = functools.partial(
    cases.linear,
    dtype=options.dtype,
    batch=options.batch,
    length=options.length,
    heads=options.heads,
    features=options.features,
    head_dim=options.head_dim,
    causal=options.causal,
    segments=options.segments,
  )
  inputs, rest, _ = make("reference")[1]
  case = linear_api.case_of(
    inputs["value"], causal=options.causal, segments=rest.get("segments")
  )
  if implementation == "mosaic_tpu":
    return case, linear_tpu.Tiles(), make
  return case, linear_triton.default_blocks(inputs.values()), make


def _long(options, implementation):
  make = functools.partial(
    cases.long_convolution,
    dtype=options.dtype,
    batch=options.batch,
    length=options.length,
    channels=options.heads * options.head_dim,
    causal=options.causal,
  )
  inputs, _, _ = make("reference")[1]
  return long_api.case_of(inputs["x"]), long_triton.Blocks(), make


_BUILD = {
  "flash_attention": _attention,
  "dynamic_convolution": _convolution,
  "linear_attention": _linear,
  "fft_convolution": _long,
}


@contextlib.contextmanager
def _table(case, implementation, blocks, kind):
  """For a while, a table that gives a kernel these tile sizes."""
  source = {"kind": "static", "note": "the tuner tries these tiles"}
  entry = _dispatch.entry_of(case, implementation, blocks, source, choose=False)
  table = {"format": _dispatch.FORMAT, "device": kind, "entries": [entry]}
  before = os.environ.get(_dispatch.VARIABLE)
  with tempfile.TemporaryDirectory() as folder:
    _dispatch.save(table, folder)
    os.environ[_dispatch.VARIABLE] = folder
    try:
      yield
    finally:
      if before is None:
        del os.environ[_dispatch.VARIABLE]
      else:
        os.environ[_dispatch.VARIABLE] = before
