"""Fourier and cosine transforms over a row and its features."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlm import errors


def dft(x, axes: tuple[int, int], *, orthonormal: bool = False):
  """The real part of the Fourier transform over two axes.

  Args:
    x: real, float32 or wider.
    axes: of length and features.
    orthonormal: divide by the root of their sizes, so that x keeps its scale.

  Returns:
    As x.
  """
  norm = "ortho" if orthonormal else None
  return jnp.fft.fft2(x, axes=axes, norm=norm).real.astype(x.dtype)


def dct(x, axes: tuple[int, int], *, orthonormal: bool = False):
  """The cosine transform of type II over two axes, as `dft`.

  y_kl = 4 sum_nd x_nd cos(pi k (2 n + 1) / 2 N) cos(pi l (2 d + 1) / 2 D)
  """
  norm = "ortho" if orthonormal else None
  for axis in axes:
    x = jax.scipy.fft.dct(x, axis=axis, norm=norm)
  return x


TRANSFORMS: dict[str, Callable] = {"dft": dft, "dct": dct}


def transform(name: str) -> Callable:
  """The transform of a name.

  Raises:
    UserError: no transform of this name.
  """
  if name not in TRANSFORMS:
    raise errors.unknown("No transform is called", name, TRANSFORMS)
  return TRANSFORMS[name]


def of_row(name: str, x, ctx, axes=(1, 2), *, orthonormal=False, parity=False):
  """A transform of a row as mixers take it.

  Computed in float32 or wider; padding counts as 0.

  Args:
    name: of the transform.
    x: [batch, length, ...].
    ctx: the context.
    axes: of length and features.
    orthonormal: see `dft`.
    parity: transform what padding holds, as released models do.

  Returns:
    As x.
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  if not parity:
    real = ctx.mask.reshape(*ctx.mask.shape, *(1,) * (x.ndim - 2))
    wide = jnp.where(real, wide, 0)
  found = transform(name)(wide, axes, orthonormal=orthonormal)
  return found.astype(x.dtype)
