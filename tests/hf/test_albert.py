"""ALBERT of transformers against ours, both ways."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import albert  # noqa: E402
from jaxlm.interop.families import albert as family  # noqa: E402
from tests.hf import families, oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
ONE = dict(
  vocab_size=VOCAB,
  embedding_size=10,
  hidden_size=24,
  num_hidden_layers=3,
  num_attention_heads=3,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
)
GROUPS = dict(ONE, num_hidden_layers=5, num_hidden_groups=3)
INNER = dict(ONE, num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)
CASES = {
  "AlbertModel": "hidden",
  "AlbertForMaskedLM": "masked_lm",
  "AlbertForSequenceClassification": "classify",
  "AlbertForTokenClassification": "tag",
}


def made(name, settings):
  config = transformers.AlbertConfig(**settings)
  config._attn_implementation = "eager"
  return oracle.draw(getattr(transformers, name)(config))


@pytest.mark.parametrize("name", CASES)
def test_every_class_in_float64(name, tmp_path):
  role = CASES[name]
  batch = oracle.batch(VOCAB, left=role != "classify")
  families.compare(made(name, ONE), tmp_path, role, batch=batch, positions=True)


@pytest.mark.parametrize("settings", [GROUPS, INNER])
def test_groups_of_layers(settings, tmp_path):
  found = families.compare(
    made("AlbertForMaskedLM", settings),
    tmp_path,
    "masked_lm",
    batch=oracle.batch(VOCAB),
    positions=True,
  )
  kept = settings["num_hidden_groups"] * settings.get("inner_group_num", 1)
  assert len(found.params["stack"]) == kept


def test_pretraining_heads(tmp_path):
  model = made("AlbertForPreTraining", dict(ONE, num_labels=2))
  found = oracle.imported(model, tmp_path)
  assert tuple(found.model["heads"]) == ("masked_lm", "next_sentence")
  batch = oracle.batch(VOCAB, left=False)
  theirs = oracle.theirs(model, batch, positions=True)
  mine = oracle.ours(found, batch | {"cls_positions": np.zeros((2, 1), int)})
  mask = batch["segments"]
  oracle.close(mine["masked_lm"], theirs.prediction_logits, 1e-9, mask)
  oracle.close(mine["next_sentence"][:, 0], theirs.sop_logits, 1e-9)


def spec(order="layer", **heads):
  found = albert.get_config("tiny").model.to_dict() | dict(vocab_size=VOCAB)
  order = order.split()
  layer = found["layers"]["layer"]
  found["layers"] = {name: layer for name in dict.fromkeys(order)}
  found |= dict(order=tuple(order), depth=max(len(order), 3))
  return found | dict(
    heads=dict(masked_lm=found["heads"]["masked_lm"], **heads)
  )


ORDER = dict(kind="classify", classes=2)
CLASSIFY = dict(kind="classify", classes=3)
EXPORTS = {
  "one": (spec(), "AlbertForMaskedLM"),
  "groups": (spec("a a b b c c"), "AlbertForMaskedLM"),
  "inner": (spec("a b a b c d c d"), "AlbertForMaskedLM"),
  "apart": (spec("a b c"), "AlbertForMaskedLM"),
  "order": (spec(next_sentence=ORDER), "AlbertForPreTraining"),
  "tuned": (spec(classify=CLASSIFY), "AlbertForSequenceClassification"),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_what_is_exported(name, tmp_path):
  model, architecture = EXPORTS[name]
  params, _ = families.export(model, tmp_path, architecture)
  if name != "inner":  # the file tells the same layers by other names
    families.again(model, params, tmp_path)


def test_an_order_that_albert_does_not_know_is_not_exported(tmp_path):
  model = spec("a b b a")
  params = oracle.random_params(model)
  with pytest.raises(families.interop.NotExportable, match="stack is .shared"):
    families.interop.export_folder(tmp_path / "a", model=model, params=params)


@pytest.mark.parametrize(
  "layers, groups, inner, uses",
  [
    (12, 3, 1, [0] * 4 + [4] * 4 + [8] * 4),
    (4, 1, 2, [0, 1] * 4),
    (5, 3, 1, [0, 0, 2, 2, 4]),
  ],
)
def test_which_layer_uses_which_group(layers, groups, inner, uses):
  assert family.sharing(layers, groups, inner) == uses
