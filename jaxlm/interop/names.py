"""Tables from our parameter names to a checkpoint's tensor names.

A table is a list of `Leaf`; `linear` and `norm` write the pairs that belong
together. Entries whose parameter a model does not have (a bias it lacks) are
left out by `present`, so one table serves all variants of a family.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
  """How a tensor of another shape holds an array of ours.

  Attributes:
    theirs: our array -> the tensor.
    ours: the tensor -> our array.
  """

  theirs: Callable[[np.ndarray], np.ndarray]
  ours: Callable[[np.ndarray], np.ndarray]


# torch's Conv1d [out, in, taps] and our [taps, in, out].
CONVOLUTION = Layout(lambda a: a.T, lambda t: t.T)
# torch's Conv1d of one tap, [out, in, 1], and our dense kernel [in, out].
POINTWISE = Layout(lambda a: a.T[..., None], lambda t: t[..., 0].T)
# torch's Conv1d of a group for each channel, [channels, 1, taps], and our
# filter [taps, channels].
DEPTHWISE = Layout(lambda a: a.T[:, None], lambda t: t[:, 0].T)
# A vector as a column, [n, 1].
COLUMN = Layout(lambda a: a[:, None], lambda t: t[:, 0])


def grouped(groups: int) -> Layout:
  """torch's grouped Conv1d of one tap and our kernel of a grouped map.

  Theirs is [out, in / groups, 1], ours [groups, in / groups, out / groups].
  """

  def theirs(array):
    return array.swapaxes(1, 2).reshape(-1, array.shape[1], 1)

  def ours(tensor):
    split = tensor[..., 0].reshape(groups, -1, tensor.shape[1])
    return split.swapaxes(1, 2)

  return Layout(theirs, ours)


class Leaf(NamedTuple):
  """Where one of our arrays lies in a checkpoint.

  Attributes:
    ours: path of the parameter, 'stack/layers_0/mixer/query/kernel'.
    theirs: name of the tensor.
    transpose: the tensor is kept as [out, in] (torch's Linear); ours are
      [in, out].
    part: (index, count): the tensor holds `count` of our arrays side by side
      along the output axis, and this is number `index`.
    aliases: other names under which the same tensor may be found.
    zero: the class has no such tensor; it computes as if this were 0.
    layout: where more than a transposition is between the two; it then takes
      the place of `transpose`, and the tensor holds nothing else.
    groups: where parts take turns, how often: a tensor of 2 groups and 3
      parts holds parts 0, 1, 2, 0, 1, 2.
  """

  ours: str
  theirs: str
  transpose: bool = False
  part: tuple[int, int] = (0, 1)
  aliases: tuple[str, ...] = ()
  zero: bool = False
  layout: Layout | None = None
  groups: int = 1

  @property
  def axis(self) -> int:
    """The output axis of the tensor."""
    return 0 if self.transpose else -1


def linear(ours: str, theirs: str, *, transpose=True, part=(0, 1)):
  """A dense map: kernel and bias."""
  return [
    Leaf(f"{ours}/kernel", f"{theirs}.weight", transpose, part),
    Leaf(f"{ours}/bias", f"{theirs}.bias", False, part),
  ]


def fused(ours: Sequence[str], theirs: str, *, transpose=True):
  """Dense maps that a checkpoint keeps as one, side by side."""
  return [
    leaf
    for i, name in enumerate(ours)
    for leaf in linear(name, theirs, transpose=transpose, part=(i, len(ours)))
  ]


def norm(ours: str, theirs: str):
  """A norm: scale and bias; old files call them gamma and beta."""
  return [
    Leaf(
      f"{ours}/norm/scale", f"{theirs}.weight", aliases=(f"{theirs}.gamma",)
    ),
    Leaf(f"{ours}/norm/bias", f"{theirs}.bias", aliases=(f"{theirs}.beta",)),
  ]


def repeated(leaves: Iterable[Leaf], depth: int) -> list[Leaf]:
  """The table of one layer, its '{i}' replaced by 0 .. depth - 1."""
  return [
    leaf._replace(
      ours=leaf.ours.replace("{i}", str(i)),
      theirs=leaf.theirs.replace("{i}", str(i)),
      aliases=tuple(alias.replace("{i}", str(i)) for alias in leaf.aliases),
    )
    for i in range(depth)
    for leaf in leaves
  ]


def present(leaves: Iterable[Leaf], paths: Iterable[str]) -> list[Leaf]:
  """The entries whose parameter exists.

  Raises:
    LookupError: parameters that no entry covers; they are listed.
  """
  wanted = set(paths)
  held = [leaf for leaf in leaves if leaf.ours in wanted]
  left = wanted - {leaf.ours for leaf in held}
  if left:
    raise LookupError(", ".join(sorted(left)))
  return held


def tensors(
  leaves: Iterable[Leaf], params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Tensors by their names in the checkpoint, from our arrays by path.

  Raises:
    ValueError: one name would hold two different arrays, or a parameter that
      the class takes for 0 is not; the text says which.
  """
  parts: dict[str, dict[int, np.ndarray]] = {}
  of_name: dict[str, Leaf] = {}
  for leaf in leaves:
    array = np.asarray(params[leaf.ours])
    if leaf.zero:
      if np.any(array):
        raise ValueError(
          f"'{leaf.ours}' is not 0, and there is no tensor for it"
        )
      continue
    array = _theirs(leaf, array)
    held = parts.setdefault(leaf.theirs, {})
    if leaf.part[0] in held and not np.array_equal(held[leaf.part[0]], array):
      raise ValueError(f"two parameters would be the tensor '{leaf.theirs}'")
    held[leaf.part[0]] = array
    of_name[leaf.theirs] = leaf
  return {
    name: _joined([held[i] for i in range(len(held))], of_name[name])
    for name, held in parts.items()
  }


def _joined(parts, leaf):
  """The tensor of all parts."""
  pieces = [np.split(part, leaf.groups, leaf.axis) for part in parts]
  turns = [piece for turn in zip(*pieces, strict=True) for piece in turn]
  return np.ascontiguousarray(np.concatenate(turns, leaf.axis))


def ours(leaf: Leaf, tensor: np.ndarray) -> np.ndarray:
  """Our array, cut out of a tensor and turned."""
  if leaf.layout is not None:
    return np.ascontiguousarray(leaf.layout.ours(tensor))
  index, count = leaf.part
  if count > 1:
    pieces = np.split(tensor, count * leaf.groups, leaf.axis)
    tensor = np.concatenate(pieces[index::count], leaf.axis)
  return np.ascontiguousarray(tensor.T if leaf.transpose else tensor)


def shape(leaf: Leaf, of_ours: tuple[int, ...]) -> tuple[int, ...]:
  """The shape of the tensor that holds an array of ours."""
  found = list(_theirs(leaf, np.broadcast_to(np.int8(0), of_ours)).shape)
  if leaf.part[1] > 1:
    found[leaf.axis] *= leaf.part[1]
  return tuple(found)


def _theirs(leaf, array):
  """One part of a tensor."""
  if leaf.layout is not None:
    return leaf.layout.theirs(array)
  return array.T if leaf.transpose else array
