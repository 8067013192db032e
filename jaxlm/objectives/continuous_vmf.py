"""Predicted vectors as parameters of von Mises-Fisher distributions."""

import dataclasses
import math

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import _continuous, objectives

LEAST_WIDTH = 20  # below, the expansion is not exact in float32


@objectives.register("continuous_vmf", paper="arXiv:1812.04616")
@dataclasses.dataclass(frozen=True)
class ContinuousVMF(_continuous.Continuous):
  """-log C(|e'|) - dot * e'.e + norm * |e'|, nats of a density on the sphere.

  Kumar and Tsvetkov (ICLR 2019), section 4: e' is direction and concentration
  of the distribution of the next word's unit vector e. `norm` is the first of
  their regularisers, against large concentrations, `dot` below 1 the second.

  Attributes:
    norm: lambda_1, 0.02 in their first variant.
    dot: lambda_2, 0.1 in their second.
  """

  norm: float = 0.0
  dot: float = 1.0

  def loss(self, found, wanted, batch):
    """Nats.

    Raises:
      UserError: vectors too narrow for the normaliser's expansion.
    """
    del batch
    width = found.shape[-1]
    if width < LEAST_WIDTH:
      raise errors.UserError(
        f"objective 'continuous_vmf' needs vectors of {LEAST_WIDTH} numbers or "
        f"more, and these have {width}: take 'continuous_cosine'."
      )
    square = jnp.sum(jnp.square(found), axis=-1)
    nats = -log_normalizer(square, width)
    nats -= self.dot * jnp.sum(found * wanted, axis=-1)
    return nats + self.norm * jnp.sqrt(square + 1e-12)


def log_normalizer(square, width: int):
  """log C(k) = (m/2 - 1) log k - (m/2) log 2 pi - log I_(m/2 - 1)(k).

  By Debye's expansion of the Bessel function for large orders, of four terms,
  in which nothing overflows and k = 0 is regular.

  Args:
    square: k^2, of any shape.
    width: m, at least `LEAST_WIDTH`.
  """
  order = width / 2 - 1
  ratio = square / order**2
  s = jnp.sqrt(1 + ratio)
  t = 1 / s
  t2 = t * t
  u1 = t * (3 - 5 * t2) / 24
  u2 = t2 * (81 - 462 * t2 + 385 * t2**2) / 1152
  u3 = 30375 - 369603 * t2 + 765765 * t2**2 - 425425 * t2**3
  u3 = t * t2 * u3 / 414720
  rest = u1 / order + u2 / order**2 + u3 / order**3
  # v log v - v s, written so that two large numbers do not cancel at k = 0.
  constant = order * (math.log(order) - 1) + 0.5 * math.log(2 * math.pi * order)
  constant -= width / 2 * math.log(2 * math.pi)
  grown = order * (jnp.log1p(s) - ratio / (1 + s))
  return constant + grown + 0.25 * jnp.log1p(ratio) - jnp.log1p(rest)
