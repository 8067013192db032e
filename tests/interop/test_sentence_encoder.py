"""Sentence encoders as folders, read again."""

import json

import jax
import numpy as np
import pytest

from jaxlm import interop, loading, run
from jaxlm.evaluation import embed
from jaxlm.models import assembly
from tests import tiny
from tests.evaluation import toys

TEXTS = ["the cat sat", "dogs", "a, b."]


def folder_of(path, pooling, projection):
  """A workdir and its export."""
  tokenizer = toys.wordpiece()
  spec = tiny.config_model("simcse") | dict(vocab_size=tokenizer.vocab_size)
  spec["heads"] = dict(
    embed=dict(kind="embed", pooling=pooling, projection=projection)
  )
  model = assembly.build(spec)
  batch = {"inputs": np.ones((1, 4), np.int32)}
  params = tiny.fill(tiny.shapes(model, batch))["params"]
  run.save(path / "run", spec, params, tokenizer)
  return run.export(path / "run", path / "out")


@pytest.mark.parametrize(
  "pooling, projection, files",
  [
    ("mean", "kept", ["", "1_Pooling", "2_Dense"]),
    ("cls", "training", ["", "1_Pooling"]),
  ],
)
def test_a_folder_embeds_as_the_model_did(pooling, projection, files, tmp_path):
  facts = folder_of(tmp_path, pooling, projection)
  assert facts["architecture"] == "BertModel"
  assert facts["library"] == "sentence-transformers"
  out = tmp_path / "out"
  modules = json.loads((out / "modules.json").read_text())
  assert [m["path"] for m in modules] == files
  flags = json.loads((out / "1_Pooling/config.json").read_text())
  assert flags.pop("word_embedding_dimension") == 32
  on = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
  assert [flag for flag, value in flags.items() if value] == [on[pooling]]
  lengths = json.loads((out / "sentence_bert_config.json").read_text())
  assert lengths["max_seq_length"] == 512
  before = embed.embed(loading.load(tmp_path / "run"), TEXTS).vectors
  after = embed.embed(loading.load(out), TEXTS).vectors
  np.testing.assert_allclose(after, before, atol=1e-6)
  # The same folder again: nothing was added to it.
  run.export(tmp_path / "run", out)


def test_a_folder_that_pools_otherwise_has_no_head(tmp_path):
  folder_of(tmp_path, "mean", "kept")
  out = tmp_path / "out"
  dense = out / "2_Dense/config.json"
  config = json.loads(dense.read_text())
  relu = "torch.nn.modules.activation.ReLU"
  dense.write_text(json.dumps(config | dict(activation_function=relu)))
  assert "embed" not in interop.import_folder(out).model["heads"]
  pooling = out / "1_Pooling/config.json"
  (out / "modules.json").write_text(
    json.dumps(json.loads((out / "modules.json").read_text())[:2])
  )
  spec = interop.import_folder(out).model["heads"]["embed"]
  assert spec == dict(kind="embed", pooling="mean")
  for name, found in (("cls", "cls"), ("max", None)):
    pooling.write_text(json.dumps({"pooling_mode": name}))
    heads = interop.import_folder(out).model["heads"]
    assert heads.get("embed", {}).get("pooling") == found


def test_parameters_come_back(tmp_path):
  folder_of(tmp_path, "mean", "kept")
  before = loading.load(tmp_path / "run").variables["params"]["heads_embed"]
  after = interop.import_folder(tmp_path / "out").params["heads_embed"]
  jax.tree.map(np.testing.assert_array_equal, after, tiny.host(before))
