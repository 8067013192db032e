"""SqueezeBERT of transformers against ours, both ways."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import squeezebert  # noqa: E402
from jaxlm import errors  # noqa: E402
from tests.hf import families, oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
FOUR = dict(
  vocab_size=VOCAB,
  hidden_size=24,
  embedding_size=24,
  num_hidden_layers=2,
  num_attention_heads=3,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
)
# Heads and groups that do not nest, a grouped output, a plain feed-forward.
OTHER = dict(
  FOUR,
  q_groups=2,
  k_groups=2,
  v_groups=2,
  post_attention_groups=3,
  intermediate_groups=1,
  output_groups=1,
)
PLAIN = dict(OTHER, q_groups=1, k_groups=1, v_groups=1, post_attention_groups=1)
CASES = {
  "SqueezeBertModel": "hidden",
  "SqueezeBertForMaskedLM": "masked_lm",
  "SqueezeBertForSequenceClassification": "classify",
}


def made(name, settings):
  config = transformers.SqueezeBertConfig(**settings)
  return oracle.draw(getattr(transformers, name)(config))


@pytest.mark.parametrize("name", CASES)
def test_every_class_in_float64(name, tmp_path):
  role = CASES[name]
  batch = oracle.batch(VOCAB, left=role != "classify")
  families.compare(
    made(name, FOUR), tmp_path, role, batch=batch, positions=True
  )


def test_tags(tmp_path):
  name = "SqueezeBertForTokenClassification"
  found = oracle.imported(made(name, FOUR), tmp_path)
  assert list(found.model["heads"]) == ["tag"]


@pytest.mark.parametrize("settings", [OTHER, PLAIN])
def test_other_groups(settings, tmp_path):
  families.compare(
    made("SqueezeBertForMaskedLM", settings),
    tmp_path,
    "masked_lm",
    batch=oracle.batch(VOCAB),
    positions=True,
  )


def test_maps_in_different_groups_are_refused(tmp_path):
  made("SqueezeBertModel", dict(FOUR, k_groups=2)).save_pretrained(tmp_path)
  with pytest.raises(errors.UserError, match="q_groups 4, k_groups 2"):
    families.interop.import_folder(tmp_path)


HEADS = {
  "masked_lm": "SqueezeBertForMaskedLM",
  "classify": "SqueezeBertForSequenceClassification",
}


@pytest.mark.parametrize("head", HEADS)
def test_what_is_exported(head, tmp_path):
  spec = squeezebert.get_config("tiny").model.to_dict()
  spec |= dict(vocab_size=VOCAB)
  if head == "classify":
    spec["heads"] = dict(classify=dict(kind="classify", classes=3))
    spec["layers"]["layer"]["mixer"] |= dict(groups=1, output_groups=2)
  params, _ = families.export(spec, tmp_path, HEADS[head])
  families.again(spec, params, tmp_path)


def test_the_published_size_is_that_of_transformers():
  with torch.device("meta"):
    model = transformers.SqueezeBertModel(transformers.SqueezeBertConfig())
  assert sum(p.numel() for p in model.parameters()) == 51_089_664
