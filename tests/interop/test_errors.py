"""What cannot be read or written is told in one sentence."""

import functools
import importlib.util
import json
import shutil

import numpy as np
import pytest
import safetensors.numpy

from jaxlm import interop
from jaxlm.errors import UserError
from jaxlm.interop.families import general
from tests.interop import folders


@pytest.fixture(scope="module")
def original(tmp_path_factory):
  """An exported BERT."""
  spec = folders.spec("bert")
  out = tmp_path_factory.mktemp("bert") / "out"
  interop.export_folder(out, model=spec, params=folders.params(spec))
  return out


@pytest.fixture
def folder(original, tmp_path):
  """A copy to spoil."""
  return shutil.copytree(original, tmp_path / "copy")


@pytest.fixture
def bare():
  """A model without heads, and its parameters."""
  spec = folders.spec("bert", heads={}, depth=1)
  return spec, folders.params(spec)


def without(folder, change):
  """Writes the tensors again after a change."""
  held = folders.tensors(folder)
  change(held)
  safetensors.numpy.save_file(held, folder / "model.safetensors")


def refuses(folder, *words):
  with pytest.raises(UserError) as error:
    interop.import_folder(folder)
  for word in words:
    assert word in str(error.value), str(error.value)


def test_unknown_model_type(folder):
  folders.change(folder, lambda c: c.update(model_type="berd"))
  refuses(
    folder, "'berd'", "Did you mean 'bert'?", "Known: albert, bart, bert,"
  )


def test_no_folder(folder):
  refuses(folder.parent / "cop", "No folder", "Did you mean 'copy'?")


def test_no_config(folder):
  (folder / "config.json").unlink()
  refuses(folder, "no config.json", "model.safetensors")


def test_config_that_is_not_json(folder):
  (folder / "config.json").write_text("{")
  refuses(folder, "config.json' is not JSON")


def test_no_weights(folder):
  (folder / "model.safetensors").unlink()
  refuses(folder, "holds no weights", "expected model.safetensors")


def test_half_written_weights(folder):
  path = folder / "model.safetensors"
  path.write_bytes(path.read_bytes()[:-100])
  refuses(folder, str(path), "damaged or half-written")


def test_missing_tensor(folder):
  name = "bert.encoder.layer.1.output.dense.weight"
  without(folder, lambda held: held.pop(name))
  refuses(folder, f"no tensor '{name}'", "stack/layers_1/feedforward/output")


def test_wrong_shape(folder):
  folders.change(folder, lambda c: c.update(vocab_size=70))
  refuses(folder, "word_embeddings.weight", "(61, 32)", "(70, 32)")


def test_missing_size(folder):
  folders.change(folder, lambda c: c.pop("hidden_size"))
  refuses(folder, "has no hidden_size")


def test_setting_that_cannot_be_expressed(folder):
  folders.change(
    folder, lambda c: c.update(position_embedding_type="relative_key")
  )
  refuses(folder, "position_embedding_type is 'relative_key'", "'absolute'")


def test_activation_that_cannot_be_expressed(folder):
  folders.change(folder, lambda c: c.update(hidden_act="mish"))
  refuses(folder, "hidden_act is 'mish'", "'gelu'")


def test_output_table_of_its_own(folder):
  def untie(held):
    table = held["bert.embeddings.word_embeddings.weight"]
    held["cls.predictions.decoder.weight"] = table + 1

  without(folder, untie)
  refuses(folder, "cls.predictions.decoder.weight", "not the token table")


def test_vocabulary_that_is_too_large(folder):
  folders.wordpiece(70).save_hf(folder)
  refuses(folder, "70 ids", "61 rows")


def test_missing_shard(folder):
  held = folders.tensors(folder)
  index = {"weight_map": dict.fromkeys(held, "model-00001.safetensors")}
  (folder / "model.safetensors").unlink()
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))
  refuses(folder, "model-00001.safetensors", "missing")


@pytest.mark.skipif(
  importlib.util.find_spec("torch") is not None, reason="torch reads them"
)
def test_pickled_weights(folder):
  (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
  refuses(folder, "pickled", "save_pretrained('converted')")


def test_our_folder_of_another_format(folder):
  folders.change(folder, lambda c: c.update(model_type="jaxlm", format=9))
  refuses(folder, "format is 9", "reads format 1")


def test_a_strange_folder_is_not_overwritten(bare, tmp_path):
  spec, params = bare
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match="not written by an export"):
    interop.export_folder(tmp_path, model=spec, params=params)
  assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_changed_export_is_not_overwritten(original, bare, tmp_path):
  spec, params = bare
  out = shutil.copytree(original, tmp_path / "out")
  interop.export_folder(out, model=spec, params=params)  # unchanged: replaced
  assert "cls.predictions.bias" not in folders.tensors(out)
  (out / "README.md").write_text("my own words")
  with pytest.raises(UserError, match="README.md' was added or changed"):
    interop.export_folder(out, model=spec, params=params)
  assert (out / "README.md").read_text() == "my own words"
  assert [p.name for p in tmp_path.iterdir()] == ["out"]


def cannot_export(spec, params, *words, **more):
  with pytest.raises(UserError) as error:
    interop.export_folder("/nowhere/out", model=spec, params=params, **more)
  for word in words:
    assert word in str(error.value), str(error.value)


def test_vocabulary_of_another_model(bare):
  tokenizer = folders.wordpiece(70)
  cannot_export(*bare, "70 ids", "61 rows", tokenizer=tokenizer)


def test_labels_of_another_task():
  heads = {"classify": {"kind": "classify", "classes": 3}}
  spec = folders.spec("bert", heads=heads, depth=1)
  params = folders.params(spec)
  cannot_export(spec, params, "2 labels", "3 classes", labels=("a", "b"))


def test_parameters_of_another_config(bare):
  spec, params = bare
  other = {**spec, "vocab_size": 62}
  cannot_export(other, params, "vocab_size is 62", "61 rows")
  fewer = {k: v for k, v in params.items() if k != "input_norm"}
  cannot_export(spec, fewer, "no input_norm/norm/bias")
  cannot_export({**spec, "input_norm": False}, params, "has not")
  spec = {**spec, "depth": 2, "stack": {"kind": "sequential"}}
  cannot_export(spec, params, "stack/layers_0")


def test_two_heads_of_one_role():
  head = {"kind": "tag", "classes": 2}
  spec = folders.spec("bert", heads={"first": head, "second": head})
  params = folders.params(spec)
  cannot_export(spec, params, "two heads of kind 'tag' (first and second)")


def test_part_without_a_pytorch_form(monkeypatch):
  spec = folders.spec("mosaicbert", depth=1)
  params = folders.params(spec)
  known = {**general.READS, "feedforward": {"mlp": set()}}
  monkeypatch.setattr(general, "READS", known)
  cannot_export(
    spec,
    params,
    "layer 0, feedforward is of kind 'gated'",
    "no PyTorch form here (there are: mlp)",
    "nearest is bert",
  )


def test_field_that_the_pytorch_code_does_not_read(monkeypatch):
  spec = folders.spec("mosaicbert", depth=1)
  params = folders.params(spec)
  known = {**general.READS, "feedforward": {"gated": {"hidden", "activation"}}}
  monkeypatch.setattr(general, "READS", known)
  cannot_export(spec, params, "the PyTorch form of 'gated' has no output_bias")


@functools.cache
def adaptable():
  heads = {
    "masked_lm": {"kind": "masked_lm"},
    "tag": {"kind": "tag", "classes": 2},
  }
  spec = folders.spec("roberta", heads=heads)
  return spec, folders.params(spec)


def test_adapting_changes_stack_padding_and_heads():
  spec, params = adaptable()
  target = {
    **spec,
    "stack": {"kind": "sequential"},
    "embeddings": {**spec["embeddings"], "pad_to_multiple": 64},
    "heads": {
      "masked_lm": {"kind": "masked_lm"},
      "tag": {"kind": "tag", "classes": 5},
      "classify": {"kind": "classify", "classes": 3, "pooler": False},
    },
  }
  found, fresh = interop.adapt(params, spec, target)
  table = found["embeddings"]["table"]
  assert table.shape == (64, 32) and not table[61:].any()
  assert np.array_equal(table[:61], params["embeddings"]["table"])
  query = params["stack"]["loop"]["layers_0"]["mixer"]["query"]["kernel"]
  layer = found["stack"]["layers_1"]["mixer"]["query"]["kernel"]
  assert np.array_equal(layer, query[1])
  assert sorted(fresh) == [
    "heads_classify/output/bias",
    "heads_classify/output/kernel",
    "heads_tag/output/bias",
    "heads_tag/output/kernel",
  ]


def test_adapting_refuses_another_body():
  spec, params = adaptable()
  deeper = {**spec, "depth": 3}
  with pytest.raises(UserError, match="have no stack/layers_2"):
    interop.adapt(params, spec, deeper)
  shorter = {**spec, "positions": {**spec["positions"], "max_length": 8}}
  with pytest.raises(UserError, match="positions/table has shape"):
    interop.adapt(params, spec, shorter)
  with pytest.raises(UserError, match="a vocabulary of 61, this config"):
    interop.adapt(params, spec, {**spec, "vocab_size": 60})
