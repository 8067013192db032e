"""Both ways through the files of one family, in float64."""

import numpy as np

from jaxlm import interop
from jaxlm.interop import layout
from tests.hf import oracle

LIMIT = 1e-9


def compare(model, folder, role, *, batch, **told):
  """What a class saved, imported: its output against ours.

  Args:
    model: of transformers.
    folder: where it is saved.
    role: of its head, or 'hidden'.
    batch: rows, padded ones among them.
    **told: more arguments of `oracle.theirs`.

  Returns:
    What was imported.
  """
  found = oracle.imported(model, folder)
  assert tuple(found.model["heads"]) == ((role,) if role != "hidden" else ())
  assert all("pooler" in name for name in found.ignored)  # nobody reads it
  theirs = oracle.theirs(model, batch, **told)
  mine = oracle.ours(found, batch)[role]
  if role == "hidden":
    oracle.close(mine, theirs.last_hidden_state, LIMIT, batch["segments"])
  elif role in ("classify", "regress"):
    oracle.close(mine[:, 0], theirs.logits, LIMIT)
  else:
    oracle.close(mine, theirs.logits, LIMIT, batch["segments"])
  return found


def export(spec, folder, architecture):
  """A spec with wide random parameters, exported and read by transformers.

  Returns:
    The parameters and the facts of the export.
  """
  params = oracle.random_params(spec)
  facts = interop.export_folder(folder, model=spec, params=params)
  assert facts["architecture"] == architecture
  assert facts["why_own_code"] == ""
  assert {"hidden"} < set(facts["differences"]["transformers"])
  assert facts["largest_difference"] <= LIMIT
  return params, facts


def again(spec, params, folder):
  """Whether an exported folder gives back the parameters bit by bit."""
  found = interop.import_folder(folder, dtype=np.float64)
  ours = layout.flat(params, spec)
  back = layout.flat(found.params, found.model)
  assert ours.keys() == back.keys()
  for path, array in ours.items():
    assert np.array_equal(array, back[path]), path
  return found
