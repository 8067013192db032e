"""Out and in again: the same numbers, the same model."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxlm import interop, paths
from jaxlm.interop import description as description_lib
from jaxlm.interop import layout
from jaxlm.interop.families import general
from jaxlm.layers.stacks import arrangement
from tests.interop import folders

HEADS = {
  "bert": ("masked_lm", "next_sentence"),
  "roberta": ("masked_lm",),
  "gpt2": ("causal_lm",),
  "modernbert": ("masked_lm",),
  "mosaicbert": ("masked_lm",),
}
TYPES = {name: name for name in HEADS} | {"mosaicbert": "jaxlm"}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
  """name -> (spec, params, folder, facts), each exported once."""

  @functools.cache
  def made(name):
    spec = folders.spec(name)
    params = folders.params(spec)
    out = tmp_path_factory.mktemp("export") / name
    card = {
      "steps": 7,
      "loss": 1.25,
      "evaluation": {"accuracy": 0.5},
      "config": {"seed": 3},
    }
    facts = interop.export_folder(out, model=spec, params=params, card=card)
    return spec, params, out, facts

  return made


@pytest.mark.parametrize("name", HEADS)
def test_parameters_come_back_bit_by_bit(name, export):
  spec, params, out, facts = export(name)
  found = interop.import_folder(out)
  ours, back = layout.flat(params, spec), layout.flat(found.params, found.model)
  assert ours.keys() == back.keys()
  for path, array in ours.items():
    assert np.array_equal(array[: len(back[path])], back[path]), path
  assert facts["parameters"] == paths.count(found.params)
  assert found.ignored == ()


@pytest.mark.parametrize("name", HEADS)
def test_the_model_comes_back(name, export):
  spec, _, out, facts = export(name)
  found = interop.import_folder(out)
  assert facts["model_type"] == TYPES[name]
  assert tuple(sorted(found.model["heads"])) == HEADS[name]
  assert not description_lib.differences(
    description_lib.describe({**spec, "heads": found.model["heads"]}),
    description_lib.describe(found.model),
  )
  # Rates of dropout too, which fine-tuning reads.
  assert found.model["dropout"] == spec["dropout"]


@pytest.mark.parametrize("name", ["modernbert", "mosaicbert"])
def test_exporting_what_was_imported_writes_the_same_bytes(
  name, export, tmp_path
):
  _, _, out, _ = export(name)
  found = interop.import_folder(out)
  interop.export_folder(
    tmp_path / "again", model=found.model, params=found.params
  )
  for file in ("model.safetensors", "config.json"):
    again = tmp_path / "again" / file
    assert (out / file).read_bytes() == again.read_bytes(), file


def test_unrolled_parameters_export_like_scanned_ones(export, tmp_path):
  spec, params, out, _ = export("modernbert")
  order = spec["order"]
  interop.export_folder(
    tmp_path / "out",
    model={**spec, "stack": {"kind": "sequential"}},
    params=arrangement.unrolled(params, order),
  )
  file = "model.safetensors"
  assert (out / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


@pytest.mark.parametrize(
  "order", ["a", "ab", "aaaa", "abcabc", "abbbc", "abcbcbcd"]
)
def test_arrangements_are_inverse(order):
  draw = np.random.default_rng(0).normal
  layers = {f"layers_{i}": {"kernel": draw(size=3)} for i in range(len(order))}
  unrolled = {"stack": layers, "other": {"table": draw(size=2)}}
  scanned = arrangement.scanned(unrolled, order)
  if len(set(order)) < len(order):
    assert len(scanned["stack"]) < len(order)
  back = arrangement.unrolled(scanned, order)
  assert jax.tree.all(jax.tree.map(np.array_equal, back, unrolled))


def test_facts_and_card(export):
  _, _, out, facts = export("mosaicbert")
  assert facts["architecture"] == "JaxlmForMaskedLM"
  assert "positions/kind is 'alibi'" in facts["why_own_code"]
  assert facts["differences"]["jaxlm"] == {"hidden": 0.0, "masked_lm": 0.0}
  assert facts["largest_difference"] < 1e-4
  card = (out / "README.md").read_text()
  assert "Largest difference: " in card
  assert "| loss | 1.25 |" in card
  assert "### evaluation" in card and "| accuracy | 0.5 |" in card
  assert '"seed": 3' in card
  assert "trust_remote_code=True" in card
  assert "pipeline_tag: fill-mask" in card
  assert json.loads((out / "jaxlm.json").read_text())["files"] == facts["files"]


def test_the_code_of_the_folder_is_the_shipped_one(export):
  _, _, out, _ = export("mosaicbert")
  shipped = pathlib.Path(interop.__file__).parent / "exported"
  names = sorted(path.name for path in shipped.glob("*.py"))
  assert names == sorted(general.CODE)
  for name in names:
    text = (out / name).read_text()
    assert text == (shipped / name).read_text()
    compile(text, name, "exec")


def test_tensors_have_the_names_and_layout_of_transformers(export):
  _, params, out, _ = export("gpt2")
  held = folders.tensors(out)
  mixer = params["stack"]["loop"]["layers_0"]["mixer"]
  fused = np.concatenate(
    [mixer[n]["kernel"][1] for n in ("query", "key", "value")], axis=1
  )
  assert np.array_equal(held["transformer.h.1.attn.c_attn.weight"], fused)
  assert held["transformer.wte.weight"].shape == (folders.VOCAB, 32)
  _, params, out, _ = export("bert")
  name = "bert.encoder.layer.0.intermediate.dense.weight"
  looped = params["stack"]["loop"]["layers_0"]
  kernel = looped["feedforward"]["input"]["kernel"][0]
  assert np.array_equal(folders.tensors(out)[name], kernel.T)


def test_old_names_and_bodies_without_prefix_are_read(export, tmp_path):
  _, _, out, _ = export("bert")
  renamed = {}
  for name, array in folders.tensors(out).items():
    if "LayerNorm" in name:
      name = name.replace("weight", "gamma").replace("bias", "beta")
    renamed[name.removeprefix("bert.")] = array
  renamed["embeddings.position_ids"] = np.arange(4)[None]
  renamed["pooler.extra.weight"] = np.zeros(2, np.float32)
  (tmp_path / "config.json").write_text((out / "config.json").read_text())
  safetensors.numpy.save_file(renamed, tmp_path / "model.safetensors")
  old, new = interop.import_folder(tmp_path), interop.import_folder(out)
  same = jax.tree.map(np.array_equal, old.params, new.params)
  assert jax.tree.all(same)
  assert old.ignored == ("pooler.extra.weight",)


def test_half_precision_files_are_read(export, tmp_path):
  import ml_dtypes

  _, _, out, _ = export("gpt2")
  held = folders.tensors(out)
  half = {k: v.astype(ml_dtypes.bfloat16) for k, v in held.items()}
  (tmp_path / "config.json").write_text((out / "config.json").read_text())
  safetensors.numpy.save_file(half, tmp_path / "model.safetensors")
  table = interop.import_folder(tmp_path).params["embeddings"]["table"]
  assert table.dtype == np.float32
  wide = half["transformer.wte.weight"].astype(np.float32)
  assert np.array_equal(table, wide)


def test_heads_labels_and_tokenizer(tmp_path):
  heads = {"topic": {"kind": "classify", "classes": 3, "dropout": 0.1}}
  spec = folders.spec("bert", heads=heads)
  params = folders.params(spec)
  tokenizer = folders.wordpiece()
  interop.export_folder(
    tmp_path / "out",
    model={**spec, "heads": {"topic": {"kind": "classify", "dropout": 0.1}}},
    params=params,
    tokenizer=tokenizer,
    labels=("a", "b", "c"),
  )
  found = interop.import_folder(tmp_path / "out")
  assert found.labels == ("a", "b", "c")
  assert found.model["heads"]["classify"]["classes"] == 3
  kernel = params["heads_topic"]["output"]["kernel"]
  assert np.array_equal(
    found.params["heads_classify"]["output"]["kernel"], kernel
  )
  assert found.tokenizer.encode("abc xyz") == tokenizer.encode("abc xyz")
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert config["architectures"] == ["BertForSequenceClassification"]
  assert config["pad_token_id"] == 0
  inputs = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
  assert "token_type_ids" in inputs["model_input_names"]
  assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}


def test_padded_rows_of_the_vocabulary_stay_behind(tmp_path):
  spec = folders.spec("mosaicbert")  # pads its table to 64 rows
  params = folders.params(spec)
  assert params["embeddings"]["table"].shape[0] == 64
  interop.export_folder(tmp_path / "out", model=spec, params=params)
  found = interop.import_folder(tmp_path / "out")
  assert found.params["embeddings"]["table"].shape[0] == folders.VOCAB
  bias = found.params["heads_masked_lm"]["output_bias"]
  assert bias.shape == (folders.VOCAB,)


def test_roberta_positions_move_behind_the_padding_token(tmp_path):
  # transformers puts position 0 in row pad_token_id + 1.
  spec = folders.spec("roberta")
  params = folders.params(spec)
  specials = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]"}
  tokenizer = folders.wordpiece(specials=specials)
  assert tokenizer.pad_id == 3
  interop.export_folder(
    tmp_path / "out", model=spec, params=params, tokenizer=tokenizer
  )
  found = interop.import_folder(tmp_path / "out")
  inputs = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
  assert inputs["model_input_names"] == ["input_ids", "attention_mask"]
  assert found.model["positions"]["offset"] == 4
  assert found.model["positions"]["max_length"] == 512
  table = found.params["positions"]["table"]
  assert np.array_equal(table[4:], params["positions"]["table"][2:])
