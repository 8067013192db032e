"""What a workdir of two towers leaves: a discriminator, or all of it."""

import jax
import numpy as np
import pytest

from configs import electra, tnf
from jaxlm import interop, loading, paths, recipe, run
from jaxlm.interop import layout
from jaxlm.models import two_tower
from tests.interop import folders


def spec_of(module, variant):
  """A tiny model of a config, as `recipe` completes it."""
  config = {"model": module.get_config(variant).model.to_dict()}
  return recipe.model_spec(config, {"vocab_size": folders.VOCAB})


@pytest.fixture(scope="module", params=["electra", "tnf"])
def workdir(request, tmp_path_factory):
  if request.param == "electra":
    spec = spec_of(electra, "tiny") | dict(sharing="gradient_disentangled")
  else:
    spec = spec_of(tnf, "electra_tiny")
  params = folders.params(spec)
  folder = tmp_path_factory.mktemp(request.param) / "run"
  run.save(folder, spec, params, folders.wordpiece())
  return folder, spec, params


def test_what_is_loaded_is_the_discriminator(workdir):
  folder, spec, params = workdir
  loaded = loading.load(folder)
  assert loaded.spec["kind"] == "encoder" and "notes" not in loaded.spec
  assert tuple(loaded.spec["heads"]) == ("replaced_token",)
  whole = two_tower.composed(params, spec["sharing"])
  found = paths.flatten(loaded.variables["params"])
  for path, leaf in paths.flatten(whole).items():
    np.testing.assert_array_equal(found.pop(path), leaf)
  assert not found


def test_towers_go_on_from_towers(workdir):
  folder, spec, params = workdir
  loaded = loading.load(folder, whole=True)
  assert loaded.spec == spec
  made, fresh = interop.adapt(loaded.variables["params"], loaded.spec, spec)
  assert fresh == ()
  jax.tree.map(np.testing.assert_array_equal, made, params)


def test_fine_tuning_starts_from_the_discriminator(workdir):
  folder, _, _ = workdir
  start = loading.load(folder)
  config = {"model": {"heads": {"classify": {"kind": "classify"}}}}
  facts = {"vocab_size": folders.VOCAB, "classes": ("a", "b")}
  spec = recipe.model_spec(config, facts, start.spec)
  params = jax.tree.map(np.asarray, start.variables["params"])
  made, fresh = interop.adapt(params, start.spec, spec)
  assert all(path.startswith("heads_classify/") for path in fresh)
  assert layout.shapes(spec).keys() - set(fresh) == set(layout.flat(made, spec))


def test_the_export_is_electras_discriminator(workdir, tmp_path):
  folder, _, _ = workdir
  facts = run.export(folder, tmp_path / "out")
  assert facts["architecture"] == "ElectraForPreTraining"
  assert facts["largest_difference"] <= 1e-5
  back = interop.import_folder(tmp_path / "out")
  kept = loading.load(folder)
  expected = layout.flat(kept.variables["params"], kept.spec)
  for path, array in layout.flat(back.params, back.model).items():
    np.testing.assert_array_equal(array, expected[path])
