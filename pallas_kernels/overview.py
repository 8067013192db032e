"""What would run on a device: every op at the shapes it is made for."""

import importlib
from collections.abc import Iterator
from typing import NamedTuple

from pallas_kernels import _dispatch, _platform


class Chosen(NamedTuple):
  """A choice.

  Attributes:
    op: name of the op's function.
    about: the shape, in words.
    implementation: what would run.
    reason: a clause that says why.
  """

  op: str
  about: str
  implementation: str
  reason: str


# Op, width, length, bytes of the largest array of the reference, the words.
_SHAPES = (
  ("flash_attention", 64, 512, 64 * 12 * 512**2 * 4, "64 rows of 512"),
  ("flash_attention", 64, 8192, 4 * 12 * 8192**2 * 4, "4 rows of 8192"),
  ("dynamic_convolution", 64, 512, 0, "64 rows of 512"),
  ("fft_convolution", 768, 8192, 0, "4 rows of 8192"),
  ("linear_attention", 64, 8192, 0, "4 rows of 8192"),
)


def choices(
  platform: str | None = None, kind: str | None = None
) -> Iterator[Chosen]:
  """What runs where a call names no implementation.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'; what is compiled for here where None.
    kind: jax's `device_kind`, such as 'NVIDIA H200'.
  """
  device = _platform.device(platform, kind) if platform else _platform.target()
  dtype = "float32" if device.platform == "cpu" else "bfloat16"
  for op, width, length, size, about in _SHAPES:
    known = importlib.import_module(f"pallas_kernels.{op}").implementations()
    case = _dispatch.Case(op, dtype, width, length, bytes=size)
    choice = _dispatch.pick(case, device, known)
    about = f"{about}, {dtype}"
    yield Chosen(op, about, choice.implementation, choice.reason)
