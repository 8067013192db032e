"""Documents packed in a row give what they give in rows of their own."""

import jax
import numpy as np
import pytest

from jaxlm.models import assembly
from tests import tiny

WINDOW = 4  # so that local attention matters at this length


def spec_of(name: str) -> dict:
  spec = tiny.config_model(name)
  for layer in spec["layers"].values():
    if layer["mixer"].get("window"):
      layer["mixer"]["window"] = WINDOW
  return spec


def documents() -> list[tuple[int, slice]]:
  """(row, place) of every document of the packed rows."""
  found = []
  for row, segments in enumerate(tiny.SEGMENTS):
    for segment in range(1, segments.max() + 1):
      inside = np.flatnonzero(segments == segment)
      found.append((row, slice(inside[0], inside[-1] + 1)))
  return found


def separated(packed: dict, places) -> dict:
  """One document a row, from the left; types follow."""
  rows = {
    key: np.zeros((len(places), tiny.LENGTH), np.int32)
    for key in ("inputs", "segments", "types")
  }
  for i, (row, place) in enumerate(places):
    length = place.stop - place.start
    rows["inputs"][i, :length] = packed["inputs"][row, place]
    rows["types"][i, :length] = packed["types"][row, place]
    rows["segments"][i, :length] = 1
  return rows


def whole(batch: dict, rows: int) -> dict:
  """The batch with empty rows below, so that one program runs both.

  Positions are left out: the model takes them from the segments.
  """
  keys = ("inputs", "segments", "types")
  below = rows - batch["inputs"].shape[0]
  return {k: np.pad(batch[k], ((0, below), (0, 0))) for k in keys}


def packable(name: str) -> bool:
  """Whether a config is one model that reads several documents in a row.

  Models of two towers have tests of their own.
  """
  spec = tiny.config_model(name)
  return "towers" not in spec and not assembly.leaks(
    assembly.build(spec, vocab_size=tiny.VOCAB)
  )


def unlike() -> list[str]:
  """Configs of unlike layers: optimizers and heads are of no account."""
  found = {}
  for name in filter(packable, tiny.CONFIGS):
    spec = tiny.config_model(name)
    parts = [spec[key] for key in ("embeddings", "positions", "layers")]
    found.setdefault(repr(parts), name)
  return list(found.values())


@pytest.mark.parametrize("name", unlike())
def test_packed_equals_separate(name):
  spec = spec_of(name)
  spec["embeddings"]["types"] = 2
  model, params = tiny.build(spec)
  packed, places = tiny.batch(), documents()
  pads = packed["segments"] == 0
  noise = np.random.default_rng(5).integers(1, tiny.VOCAB, pads.shape)
  packed["inputs"] = np.where(pads, noise, packed["inputs"]).astype(np.int32)

  def heads_read_everything(batch):
    every = np.arange(tiny.LENGTH, dtype=np.int32)[None].repeat(len(places), 0)
    return batch | {"cls_positions": every}

  run = jax.jit(model.apply)
  read = lambda batch: run(
    params, heads_read_everything(whole(batch, len(places)))
  )
  together, apart = read(packed), read(separated(packed, places))
  assert set(together) == {"hidden", *spec["heads"]}
  others = read(packed | {"types": 1 - packed["types"]})["hidden"]
  assert not np.allclose(others, together["hidden"], atol=1e-2)  # types count
  for head, array in together.items():
    array, alone = np.asarray(array), np.asarray(apart[head])
    scale = max(1.0, np.abs(alone).max())
    for i, (row, place) in enumerate(places):
      length = place.stop - place.start
      np.testing.assert_allclose(
        array[row, place], alone[i, :length], atol=1e-5 * scale, err_msg=head
      )
