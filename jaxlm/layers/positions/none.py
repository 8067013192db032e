"""No positions at all."""

from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions


@positions.register("none")
class NoPositions(Positions):
  """The null object: order is invisible."""
