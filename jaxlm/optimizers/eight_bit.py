"""Any optimizer with its states in 8 bits (arXiv:2110.02861)."""

from collections.abc import Mapping

import optax

from jaxlm.optimizers import _quantised, optimizers


@optimizers.register(
  "eight_bit",
  paper="arXiv:2110.02861",
  example={"learning_rate": 1e-3, "base": {"kind": "adamw"}, "smallest": 16},
)
def eight_bit(
  learning_rate, base: Mapping, smallest: int = 4096
) -> optax.GradientTransformationExtraArgs:
  """`base`, whose float32 states take 8 bits and a scale for every 256.

  Args:
    learning_rate: a schedule or a number.
    base: spec of an optimizer, without its learning rate.
    smallest: states of fewer elements stay in float32.
  """
  tx = optimizers.build(dict(base), learning_rate=learning_rate)
  return _quantised.quantised(tx, smallest)
