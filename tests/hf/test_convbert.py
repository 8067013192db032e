"""ConvBERT of transformers against ours, both ways."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import convbert  # noqa: E402
from tests.hf import families, oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
# Grouped, factorized, an uneven ratio of heads.
SMALL = dict(
  vocab_size=VOCAB,
  hidden_size=24,
  embedding_size=10,
  num_hidden_layers=2,
  num_attention_heads=5,
  head_ratio=2,
  conv_kernel_size=5,
  num_groups=2,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
)
BASE = dict(SMALL, embedding_size=24, num_groups=1, num_attention_heads=6)
RATIO = dict(SMALL, num_attention_heads=6, head_ratio=3)
SINGLE = dict(SMALL, num_attention_heads=3, head_ratio=4)  # one head is left
CASES = {
  "ConvBertModel": "hidden",
  "ConvBertForMaskedLM": "masked_lm",
  "ConvBertForSequenceClassification": "classify",
  "ConvBertForTokenClassification": "tag",
}


def made(name, settings):
  config = transformers.ConvBertConfig(**settings)
  config._attn_implementation = "eager"
  return oracle.draw(getattr(transformers, name)(config))


# Heads are split alike in all classes.
@pytest.mark.parametrize(
  "name, settings",
  [(name, settings) for name in CASES for settings in (SMALL, BASE)]
  + [("ConvBertModel", settings) for settings in (RATIO, SINGLE)],
)
def test_every_class_in_float64(name, settings, tmp_path):
  found = families.compare(
    made(name, settings),
    tmp_path,
    CASES[name],
    batch=oracle.batch(VOCAB),
    positions=True,
  )
  assert found.model["layers"]["layer"]["mixer"]["parity"]


def spec(**mixer):
  found = convbert.get_config("tiny").model.to_dict() | dict(vocab_size=VOCAB)
  found["layers"]["layer"]["mixer"] |= mixer
  return found


def test_padding_moves_the_released_model_and_not_ours(tmp_path):
  """The leak that `parity` is named for, in transformers and in jaxlm."""
  params, facts = families.export(
    spec(parity=True), tmp_path / "out", "ConvBertForMaskedLM"
  )
  assert facts["caveat"] == ""
  model = transformers.ConvBertModel.from_pretrained(tmp_path / "out")
  batch = oracle.batch(VOCAB, left=False)
  other = dict(batch)
  other["inputs"] = np.where(batch["segments"], batch["inputs"], 7)
  hidden = [
    oracle.theirs(model, b).last_hidden_state.numpy()[batch["segments"] > 0]
    for b in (batch, other)
  ]
  assert np.abs(hidden[0] - hidden[1]).max() > 0.01
  mine = [
    oracle.run(spec(), params, b)["hidden"][batch["segments"] > 0]
    for b in (batch, other)
  ]
  assert np.array_equal(*mine)
  assert np.abs(mine[0] - hidden[0]).max() > 0.01


@pytest.mark.parametrize("grouped", [True, False])
def test_what_is_exported(grouped, tmp_path):
  model = spec()
  if not grouped:
    model["layers"]["layer"]["feedforward"] = convbert.feedforward(64, 1)
    model["embeddings"] = convbert.embeddings(48, 48)
  params, facts = families.export(model, tmp_path, "ConvBertForMaskedLM")
  assert "padding" in facts["caveat"]
  assert facts["caveat"] in (tmp_path / "README.md").read_text()
  families.again(model, params, tmp_path)


@pytest.mark.parametrize(
  "variant, parameters",
  [
    ("small", 13_143_768),
    ("medium_small", 17_475_888),
    ("base", 105_680_520),
  ],
)
def test_published_sizes_are_those_of_transformers(variant, parameters):
  depth, width, heads, hidden, table, groups, vocab, *_ = convbert.SIZES[
    variant
  ]
  config = transformers.ConvBertConfig(
    vocab_size=vocab,
    hidden_size=width,
    embedding_size=table,
    num_hidden_layers=depth,
    num_attention_heads=2 * heads,
    intermediate_size=hidden,
    num_groups=groups,
  )
  with torch.device("meta"):
    model = transformers.ConvBertModel(config)
  assert sum(p.numel() for p in model.parameters()) == parameters
