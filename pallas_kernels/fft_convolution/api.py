"""The one long convolution op, and the choice of what computes it."""

import jax.numpy as jnp
import numpy as np

from pallas_kernels import _dispatch, _platform
from pallas_kernels.fft_convolution import monarch, reference

_TRITON = "pallas_kernels.fft_convolution.triton"
_IMPLEMENTATIONS = {
  "reference": reference.fft_convolution,
  "monarch": monarch.fft_convolution,
  "triton": f"{_TRITON}:fft_convolution",
}


def implementations() -> tuple[str, ...]:
  """Names that `implementation` may take."""
  return _dispatch.names(_IMPLEMENTATIONS)


def fft_convolution(
  x,
  filter,
  *,
  gate_in=None,
  gate_out=None,
  skip=None,
  causal=True,
  frequency_mask=None,
  implementation=None,
  order=None,
):
  """gate_out * (filter conv (gate_in * x) + skip * gate_in * x).

  Every channel has its own filter, as long as the sequence or shorter
  (a partial convolution: cost and memory fall with it). Computed in float32
  or wider; differentiable in all arrays, with memory linear in length.

  Not for packed rows: a long convolution reaches over the borders of
  documents, and one transform of a row cannot keep them apart, so there is
  no argument for segments. Padding is not masked either: zero x there.

  Args:
    x: [batch, length, channels].
    filter: causal, [taps, channels]: out[t] = sum_d filter[d] x[t - d].
      Not causal, [2 taps - 1, channels] with distance 0 in the middle:
      out[t] = sum_d filter[taps - 1 + d] x[t - d] over distances -taps < d <
      taps. Taps that reach past the sequence have no effect.
    gate_in: [batch, length, channels] or None (Hyena, arXiv:2302.10866).
    gate_out: [batch, length, channels] or None.
    skip: [channels] or None.
    causal: whether the filter looks back only.
    frequency_mask: bool [points / 2 + 1] NumPy array, which frequencies of
      the filter count (frequency-sparse convolution; see `frequencies.py`).
      It sets the number of points of the circle, even and at least length +
      taps - 1, 2 length as a rule; the masked filter rings over all of the
      circle. 'monarch' skips the matrix products that the mask leaves idle.
    implementation: a name of `implementations()`; None picks by table.
    order: factors of a 'monarch' transform, 2 or 3; None picks.

  Returns:
    [batch, length, channels] in x's dtype.

  Raises:
    ValueError: shapes that do not fit; a mask with causal=True, since the
      masked filter would look ahead; an order for another implementation.
    NotImplementedError: the named implementation cannot do this.
  """
  _check(x, filter, gate_in, gate_out, skip, causal, frequency_mask)
  case = case_of(x, frequency_mask=frequency_mask)
  device = _platform.target((x, filter))
  choice = _dispatch.select(implementation, case, device, _IMPLEMENTATIONS)
  options = {}
  if order is not None:
    if choice.implementation != "monarch" or order not in (2, 3):
      raise ValueError(
        f"order {order} with '{choice.implementation}': 'monarch' takes 2 or 3"
      )
    options["order"] = order
  run = _IMPLEMENTATIONS[choice.implementation]
  if choice.implementation == "triton":
    run = _dispatch.load_backend(run)
    if choice.blocks is not None:
      blocks = _dispatch.load_backend(f"{_TRITON}:Blocks")
      options["blocks"] = _dispatch.from_plain(blocks, choice.blocks)
    options["interpret"] = choice.interpret
  length = x.shape[1]
  middle = 0 if causal else (filter.shape[0] - 1) // 2
  first = max(middle - length + 1, 0)
  filter = filter[first : middle + length]  # the rest reaches nothing
  out = run(
    x,
    filter,
    gate_in=gate_in,
    causal=causal,
    frequency_mask=frequency_mask,
    **options,
  )
  if skip is not None:
    u = reference.gated(x, gate_in, out.dtype)
    out = out + skip.astype(out.dtype)[None, None] * u
  if gate_out is not None:
    out = gate_out * out
  return out.astype(x.dtype)


def case_of(x, *, frequency_mask=None) -> _dispatch.Case:
  """What the choice depends on."""
  masked = frequency_mask is not None
  wide = jnp.promote_types(x.dtype, jnp.float32).itemsize
  return _dispatch.Case(
    op="fft_convolution",
    dtype=jnp.dtype(x.dtype).name,
    width=x.shape[2],
    length=x.shape[1],
    features=frozenset({"frequency_mask"} if masked else ()),
    bytes=2 * x.size * wide,
  )


def _check(x, filter, gate_in, gate_out, skip, causal, frequency_mask):
  if x.ndim != 3 or filter.ndim != 2 or x.shape[2] != filter.shape[1]:
    raise ValueError(
      f"x {x.shape} must be [batch, length, channels], filter {filter.shape} "
      "[taps, channels]"
    )
  for name, gate in (("gate_in", gate_in), ("gate_out", gate_out)):
    if gate is not None and gate.shape != x.shape:
      raise ValueError(f"{name} {gate.shape} is not of x's shape {x.shape}")
  if skip is not None and skip.shape != x.shape[2:]:
    raise ValueError(f"skip {skip.shape} is not [{x.shape[2]}]")
  if not causal and filter.shape[0] % 2 == 0:
    raise ValueError(
      f"a filter of {filter.shape[0]} rows has no middle: without causal it "
      "has 2 taps - 1 rows"
    )
  if frequency_mask is None:
    return
  if causal:
    raise ValueError(
      "a frequency mask makes a causal filter look ahead: give causal=False "
      "and a filter whose first taps - 1 rows are 0 if that is meant"
    )
  if not isinstance(frequency_mask, np.ndarray) or frequency_mask.ndim != 1:
    raise ValueError("frequency_mask must be a NumPy array of one axis")
  points = 2 * (len(frequency_mask) - 1)
  taps = min((filter.shape[0] + 1) // 2, x.shape[1])
  if points < x.shape[1] + taps - 1:
    raise ValueError(
      f"a mask of {len(frequency_mask)} frequencies means {points} points; "
      f"length {x.shape[1]} and {taps} taps need {x.shape[1] + taps - 1}"
    )
