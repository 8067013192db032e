"""A part that mixes documents is refused where rows hold several."""

import flax.linen as nn
import pytest

from jaxlm import recipe
from jaxlm.data import datasets
from jaxlm.errors import UserError
from jaxlm.models import assembly
from tests import tiny


class Smearing(nn.Module):
  """A mixer that looks past the end of a document."""

  leaks = "its kernel crosses the border between documents."

  @nn.compact
  def __call__(self, x, ctx):
    return x


def model(mixer=None):
  made = assembly.build(tiny.model_spec())
  if mixer is None:
    return made
  layer = made.stack.layers[0].clone(mixer=mixer)
  return made.clone(stack=made.stack.clone(layers=(layer,)))


def data(**arrangement):
  return datasets.build(
    {"kind": "packed", "files": "x.txt", "arrangement": arrangement}
  )


def test_what_leaks_is_found_inside_a_model():
  assert assembly.leaks(model()) == {}
  assert assembly.leaks(model(Smearing())) == {"Smearing": Smearing.leaks}
  assert assembly.leaks({"a": (Smearing(),)}) == {"Smearing": Smearing.leaks}


@pytest.mark.parametrize(
  "arrangement, packs",
  [
    (dict(kind="documents"), True),
    (dict(kind="documents", max_per_row=1), False),
    (dict(kind="pairs"), True),
    (dict(kind="pairs", max_per_row=1), False),
    (dict(kind="blocks"), False),
    (dict(kind="chunks"), False),
    (dict(kind="chunks", cross_document=False), True),
  ],
)
def test_packed_rows_are_refused_and_others_are_not(arrangement, packs):
  assert data(**arrangement).packs is packs
  recipe.check_packing(model(), data(**arrangement))
  if not packs:
    recipe.check_packing(model(Smearing()), data(**arrangement))
    return
  with pytest.raises(UserError, match="Smearing cannot read several documents"):
    recipe.check_packing(model(Smearing()), data(**arrangement))
