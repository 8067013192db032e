"""Which axes of a parameter are inputs, for methods that treat matrices.

A dense kernel is [inputs, outputs], a table [entries, features], a
convolution [width, inputs, outputs]; a parameter of a scanned stack has an
axis of layers in front, over which nothing is ever averaged or projected.
References in torch hold dense kernels as [outputs, inputs].
"""

import re

from jaxlm.optimizers import _parts

_TABLE = re.compile(r"(^|[/_])(table|embedding)$")
_STACKED = re.compile(_parts.STACKED)


def stacked(path: str) -> bool:
  """Whether the leading axis counts the layers of a scanned stack."""
  return bool(_STACKED.search(path))


def rank(path: str, leaf) -> int:
  """Number of axes of one layer's parameter."""
  return leaf.ndim - stacked(path)


def is_table(path: str) -> bool:
  """Whether the rows are entries (tokens, positions), not inputs."""
  return bool(_TABLE.search(path))


def input_axes(path: str, leaf) -> tuple[int, ...]:
  """The axes that a reference averages over: () for vectors.

  Inputs of a dense kernel, features of a table's entry, the width of a
  convolution.
  """
  lead = int(stacked(path))
  count = leaf.ndim - lead
  if count < 2:
    return ()
  if is_table(path):
    return (leaf.ndim - 1,)
  if count == 2:
    return (lead,)
  return tuple(range(lead, leaf.ndim - 2))
