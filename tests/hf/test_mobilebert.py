"""MobileBERT of transformers against ours, both ways."""

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from jaxlm import interop  # noqa: E402
from jaxlm.errors import UserError  # noqa: E402
from tests.hf import oracle  # noqa: E402
from tests.interop import folders  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
SETTINGS = dict(
  vocab_size=VOCAB,
  hidden_size=24,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=20,
  intra_bottleneck_size=12,
  embedding_size=10,
  num_feedforward_networks=3,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
  attn_implementation="eager",
)
TINY = dict(
  use_bottleneck_attention=True,
  key_query_shared_bottleneck=False,
  num_feedforward_networks=2,
  classifier_activation=False,
)
NORMED = dict(normalization_type="layer_norm", layer_norm_eps=1e-5)
SHAPES = {
  "student": {},
  "tiny": TINY,
  "normed": {**NORMED, "hidden_act": "gelu"},
}
HEADS = {
  "MobileBertModel": (),
  "MobileBertForMaskedLM": ("masked_lm",),
  "MobileBertForPreTraining": ("masked_lm", "next_sentence"),
  "MobileBertForNextSentencePrediction": ("next_sentence",),
  "MobileBertForSequenceClassification": ("classify",),
  "MobileBertForTokenClassification": ("tag",),
}
ALL_HEADS = {
  "masked_lm": dict(
    kind="masked_lm",
    activation="relu",
    untied=40,
    norm=dict(kind="layer_norm", epsilon=1e-12),
  ),
  "next_sentence": dict(kind="classify", classes=2, dropout=0.0, pooler=False),
}


def made(name, **changes):
  config = transformers.MobileBertConfig(**{**SETTINGS, **changes})
  return oracle.draw(getattr(transformers, name)(config))


def logits(outputs, role):
  if role == "masked_lm" and hasattr(outputs, "prediction_logits"):
    return outputs.prediction_logits
  if hasattr(outputs, "seq_relationship_logits"):
    return outputs.seq_relationship_logits
  return outputs.logits


def compare(model, found, roles):
  """Hidden states and heads on rows padded right, not, and left."""
  batch = oracle.batch(VOCAB)
  theirs = oracle.theirs(model, batch, positions=True)
  mine = oracle.ours(found, batch)
  mask = batch["segments"]
  if not roles:
    oracle.close(mine["hidden"], theirs.last_hidden_state, 1e-9, mask)
  for role in roles:
    expected = logits(theirs, role)
    if role in ("classify", "next_sentence"):
      # The third row begins with padding, the first token of which is read.
      oracle.close(mine[role][:2, 0], expected[:2], 1e-9)
    else:
      oracle.close(mine[role], expected, 1e-9, mask)


@pytest.mark.parametrize("name", HEADS)
def test_every_class_in_float64(name, tmp_path):
  model = made(name)
  found = oracle.imported(model, tmp_path)
  assert tuple(found.model["heads"]) == HEADS[name]
  if HEADS[name]:  # nothing reads the pooler of a model without heads
    assert found.ignored == ()
  compare(model, found, HEADS[name])


@pytest.mark.parametrize("shape", ["tiny", "normed"])
def test_every_shape_in_float64(shape, tmp_path):
  model = made("MobileBertForPreTraining", **SHAPES[shape])
  found = oracle.imported(model, tmp_path)
  compare(model, found, ("masked_lm", "next_sentence"))


@pytest.mark.parametrize("shape", SHAPES)
def test_export_returns_what_was_imported(shape, tmp_path):
  model = made("MobileBertForPreTraining", **SHAPES[shape])
  found = oracle.imported(model, tmp_path / "theirs")
  facts = interop.export_folder(
    tmp_path / "ours", model=found.model, params=found.params
  )
  assert facts["architecture"] == "MobileBertForPreTraining"
  assert facts["largest_difference"] <= 1e-9
  again = transformers.MobileBertForPreTraining.from_pretrained(
    tmp_path / "ours"
  ).state_dict()
  for name, tensor in model.state_dict().items():
    assert torch.equal(again[name], tensor), name


@pytest.mark.parametrize(
  "role, head, architecture",
  [
    ("classify", dict(classes=3, pooler=False), "SequenceClassification"),
    ("regress", dict(classes=1), "SequenceClassification"),
    ("tag", dict(classes=4), "TokenClassification"),
  ],
)
def test_tuned_models_go_to_their_class(role, head, architecture, tmp_path):
  spec = folders.spec("mobilebert", heads={role: dict(kind=role, **head)})
  facts = interop.export_folder(
    tmp_path / "out", model=spec, params=oracle.random_params(spec)
  )
  assert facts["architecture"] == f"MobileBertFor{architecture}"
  assert set(facts["differences"]["transformers"]) == {"hidden", role}
  assert facts["largest_difference"] <= 1e-9


def test_neighbours_that_stop_at_padding_are_exported(tmp_path):
  """The trained model's own outputs, whatever the padded rows."""
  spec = folders.spec("mobilebert", heads=ALL_HEADS)
  params = oracle.random_params(spec)
  tokenizer = folders.wordpiece()
  interop.export_folder(
    tmp_path / "out", model=spec, params=params, tokenizer=tokenizer
  )
  model = transformers.MobileBertForPreTraining.from_pretrained(
    tmp_path / "out"
  ).eval()
  batch = oracle.batch(VOCAB)
  pads = batch["segments"] == 0
  batch["inputs"] = np.where(pads, tokenizer.pad_id, batch["inputs"])
  theirs = oracle.theirs(
    model, batch, positions=True, output_hidden_states=True
  )
  mine = oracle.run(spec, params, batch)
  mask = batch["segments"]
  oracle.close(mine["hidden"], theirs.hidden_states[-1], 1e-9, mask)
  oracle.close(
    np.delete(mine["masked_lm"], tokenizer.pad_id, axis=-1),
    np.delete(theirs.prediction_logits.numpy(), tokenizer.pad_id, axis=-1),
    1e-9,
    mask,
  )


def test_what_the_class_cannot_compute_is_told(tmp_path):
  teacher = folders.spec("mobilebert", heads={})
  teacher["norm"] = dict(kind="layer_norm", epsilon=1e-12)
  with pytest.raises(interop.NotExportable, match="layer_norm_eps is 1e-12"):
    interop.export_folder(
      tmp_path / "out", model=teacher, params=oracle.random_params(teacher)
    )
  model = made("MobileBertModel")
  for key in ("trigram_input", "use_bottleneck", "key_query_shared_bottleneck"):
    model.save_pretrained(tmp_path / key)
    folders.change(tmp_path / key, functools.partial(_unset, key))
    with pytest.raises(UserError, match=f"{key} is False"):
      interop.import_folder(tmp_path / key)


def _unset(key, config):
  config[key] = False
