"""The kernels of 'triton': whole transforms of a sequence, as tiles.

A sequence of `points` places is a matrix, and half of its frequencies, which
tell the others, another one (see `plan.py`). Both fit a block of threads, which
goes from the one to the other by products of matrices from the left, of
numbers between, and of matrices from the right, and back. Short sequences of
neighbouring channels lie side by side in the columns.

Tensor cores multiply bfloat16. A number is cut into the sum of 2 of them (16
bits, for signals of 16 bits) or of 3 (24 bits), and all products are summed in
float32 but those that are smaller than what is cut off. This is the same
arithmetic in Pallas' interpreter as on a GPU.
"""

import dataclasses
import functools

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from pallas_kernels import _asm


@dataclasses.dataclass(frozen=True)
class Form:
  """What a kernel is compiled for.

  Attributes:
    length: samples of a sequence.
    row: samples that share their first digit, a power of two.
    half: first digits of frequencies, 64 a group of 4 warps.
    rows: first digits of samples, as many or twice as many.
    side: sequences side by side, a power of two.
    parts: bfloat16 that make up a number, 2 or 3.
    exact: whether signals are bfloat16, one part.
    batch: rows of the batch that a program goes through, one by one.
    total: rows of the batch.
    interpret: whether Pallas interprets it.
  """

  length: int
  row: int
  half: int
  rows: int
  side: int
  parts: int
  exact: bool
  batch: int
  total: int
  interpret: bool

  @property
  def columns(self) -> int:
    """Of a tile: places in a row, of all sequences in it."""
    return self.row * self.side


def convolve(refs, *, form: Form, conjugate: bool):
  """out = signal convolved; with `conjugate` correlated, the transpose.

  Args:
    refs: signal [batch, side * length]; gate alike or absent; left
      [parts, 2, half, rows] and right [parts, 3, columns, columns], real,
      imaginary and the latter negative, matrices; turn [2, half, columns],
      numbers between; response [2, half, columns], of the filter; out [batch,
      side * length] float32.
    form: a `Form`.
    conjugate: of the response.
  """
  left, right = (_matrices(refs[n], form) for n in ("left", "right"))

  def step(b, carry):
    signal = _load(refs, "signal", "gate", b, form)
    real, imaginary = _analyse(signal, refs, left, right, form)
    real, imaginary = _times(
      real, imaginary, refs["response"], form, conjugate=conjugate
    )
    out = _synthesise(real, imaginary, refs, left, right, form)
    place, mask = _places(form)
    plt.store(refs["out"].at[b, place], out, mask=mask)
    return carry

  lax.fori_loop(0, _mine(form), step, 0)


def correlate(refs, *, form: Form):
  """Sum over a program's rows of slope x conj(signal), in frequencies.

  Args:
    refs: as of `convolve`; slope [batch, side * length] float32; out
      [2, half, columns] float32; neither response nor gate of the slope.
    form: a `Form`.
  """
  left, right = (_matrices(refs[n], form) for n in ("left", "right"))

  def step(b, sums):
    # A condition that the loop changes: else the compiler of jax 0.12 keeps
    # `turn` in registers all the way, and spills others.
    analyse = functools.partial(
      _analyse, left=left, right=right, form=form, mask=b < form.total
    )
    slope = _cut(_read(refs["slope"], b, form), form.parts)
    br, bi = analyse(slope, refs)
    ar, ai = analyse(_load(refs, "signal", "gate", b, form), refs)
    return sums[0] + (br * ar + bi * ai), sums[1] + (bi * ar - br * ai)

  zero = jnp.zeros((form.half, form.columns), jnp.float32)
  real, imaginary = lax.fori_loop(0, _mine(form), step, (zero, zero))
  refs["out"][0], refs["out"][1] = real, imaginary


def _mine(form):
  """Rows of the batch that are this program's."""
  return jnp.minimum(form.batch, form.total - pl.program_id(1) * form.batch)


def _matrices(ref, form):
  """The parts of each matrix."""
  return [
    tuple(ref[p, q] for p in range(form.parts)) for q in range(ref.shape[1])
  ]


def _places(form):
  """[rows, columns]: where a tile's elements lie, and which exist."""
  column = jnp.arange(form.columns)[None, :]
  bits = form.row.bit_length() - 1
  sequence = lax.shift_right_logical(column, bits)
  time = jnp.arange(form.rows)[:, None] * form.row + (column & (form.row - 1))
  place, mask = sequence * form.length + time, time < form.length
  if form.interpret:  # which writes masked places too, with what stood there
    place = jnp.where(mask, place, form.side * form.length)
  return place, mask


def _read(ref, b, form):
  place, mask = _places(form)
  return plt.load(ref.at[b, place], mask=mask, other=0.0)


def _load(refs, name, gate, b, form):
  """The parts of the gated signal."""
  x = _read(refs[name], b, form)
  if gate in refs:
    x = x.astype(jnp.float32)
    x *= _read(refs[gate], b, form).astype(jnp.float32)
  elif form.exact:
    return (x,)
  return _cut(x.astype(jnp.float32), form.parts)


def _cut(x, parts):
  """bfloat16 arrays whose sum is x to 8 bits each."""
  found = []
  for _ in range(parts):
    found.append(x.astype(jnp.bfloat16))
    x -= found[-1].astype(jnp.float32)
  return tuple(found)


def _dot(pairs, parts):
  """Sum of the products of two numbers in parts, smallest terms first."""
  terms = [
    (i + j, x, y)
    for a, b in pairs
    for i, x in enumerate(a)
    for j, y in enumerate(b)
    if i + j < parts
  ]
  products = [
    jnp.dot(x, y, preferred_element_type=jnp.float32)
    for _, x, y in sorted(terms, key=lambda term: -term[0])
  ]
  return functools.reduce(jnp.add, products)


def _analyse(signal, refs, left, right, form, *, mask=None):
  """Frequencies [half, columns], real and imaginary, of a signal in parts."""
  s = form.parts
  real, imaginary = (_dot([(m, signal)], s) for m in left)
  real, imaginary = _times(real, imaginary, refs["turn"], form, mask=mask)
  a, b = _cut(real, s), _cut(imaginary, s)
  real = _dot([(a, right[0]), (b, right[2])], s)
  return real, _dot([(a, right[1]), (b, right[0])], s)


def _synthesise(real, imaginary, refs, left, right, form):
  """The real signal [rows, columns] of frequencies, times points / 2."""
  s = form.parts
  a, b = _cut(real, s), _cut(imaginary, s)
  real = _dot([(a, right[0]), (b, right[1])], s)
  imaginary = _dot([(b, right[0]), (a, right[2])], s)
  real, imaginary = _times(real, imaginary, refs["turn"], form, conjugate=True)
  a, b = _cut(real, s), _cut(imaginary, s)
  back = [tuple(part.T for part in m) for m in left]
  return _dot([(back[0], a), (back[1], b)], s)


def _times(real, imaginary, ref, form, *, conjugate=False, mask=None):
  """A complex product with what `ref` [2, half, columns] holds."""
  re, im = (_held(ref.at[jnp.int32(part)], mask) for part in (0, 1))
  im = -im if conjugate else im
  fma = lambda a, b, c: _asm.fma(a, b, c, interpret=form.interpret)
  return (
    fma(real, re, -(imaginary * im)),
    fma(real, im, imaginary * re),
  )


def _held(ref, mask=None):
  """What a ref holds; `mask` is a true scalar, or None."""
  if mask is None:
    return ref[...]
  return plt.load(ref, mask=jnp.broadcast_to(mask, ref.shape), other=0.0)
