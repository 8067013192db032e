"""BERT, RoBERTa, GPT-2 and ModernBERT of transformers against ours."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, WIDTH, CLASSES = 61, 24, 3

BERT = dict(
  vocab_size=VOCAB,
  hidden_size=WIDTH,
  num_hidden_layers=2,
  num_attention_heads=3,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
  attn_implementation="eager",
)
GPT2 = dict(
  vocab_size=VOCAB,
  n_embd=WIDTH,
  n_layer=2,
  n_head=3,
  n_positions=20,
  pad_token_id=oracle.PAD,
  bos_token_id=0,
  eos_token_id=0,
  num_labels=CLASSES,
  attn_implementation="eager",
)
MODERN = dict(
  vocab_size=VOCAB,
  hidden_size=WIDTH,
  intermediate_size=20,
  num_hidden_layers=5,
  num_attention_heads=3,
  local_attention=6,
  max_position_embeddings=64,
  pad_token_id=oracle.PAD,
  bos_token_id=2,
  eos_token_id=3,
  cls_token_id=2,
  sep_token_id=3,
  num_labels=CLASSES,
  attn_implementation="sdpa",  # its eager softmax is float32
)
BIASED = dict(
  MODERN,
  attention_bias=True,
  mlp_bias=True,
  norm_bias=True,
  classifier_bias=True,
  global_attn_every_n_layers=2,
  hidden_activation="gelu_pytorch_tanh",
)


def made(name, settings, **changes):
  family = name.split("For")[0].removesuffix("Model")
  family = family.removesuffix("LMHead")
  config = getattr(transformers, f"{family}Config")(**{**settings, **changes})
  return oracle.draw(getattr(transformers, name)(config))


CASES = {
  "BertModel": (BERT, ()),
  "BertForMaskedLM": (BERT, ("masked_lm",)),
  "BertForPreTraining": (BERT, ("masked_lm", "next_sentence")),
  "BertForNextSentencePrediction": (BERT, ("next_sentence",)),
  "BertForSequenceClassification": (BERT, ("classify",)),
  "BertForTokenClassification": (BERT, ("tag",)),
  "RobertaModel": (BERT, ()),
  "RobertaForMaskedLM": (BERT, ("masked_lm",)),
  "RobertaForSequenceClassification": (BERT, ("classify",)),
  "RobertaForTokenClassification": (BERT, ("tag",)),
  "GPT2Model": (GPT2, ()),
  "GPT2LMHeadModel": (GPT2, ("causal_lm",)),
  "GPT2ForSequenceClassification": (GPT2, ("classify",)),
  "GPT2ForTokenClassification": (GPT2, ("tag",)),
  "ModernBertModel": (MODERN, ()),
  "ModernBertForMaskedLM": (MODERN, ("masked_lm",)),
  "ModernBertForSequenceClassification": (MODERN, ("classify",)),
  "ModernBertForTokenClassification": (MODERN, ("tag",)),
}


def compare(name, model, folder, limit, dtype=np.float64):
  """Imports what the model saved and compares hidden states and heads."""
  roles = CASES[name][1]
  found = oracle.imported(model, folder, dtype=dtype)
  assert tuple(found.model["heads"]) == roles
  family = found.model["kind"], found.model["positions"]["kind"]
  batch = oracle.batch(VOCAB, types=name.startswith("Bert"))
  if "GPT2ForSequence" in name:  # reads the last real token
    last = np.max(np.arange(oracle.LENGTH) * batch["segments"], axis=1)
    batch["cls_positions"] = last[:, None].astype(np.int32)
  elif "SequenceClassification" in name or "Sentence" in name:
    batch = {k: v[:2] for k, v in batch.items()}  # row 3 begins with padding
  if "PreTraining" in name:
    batch["cls_positions"] = np.zeros((3, 1), np.int32)
  # RoBERTa counts positions itself; the others are told.
  told = family[1] == "none" or "Roberta" not in name
  theirs = oracle.theirs(
    model, batch, positions=told, output_hidden_states=True
  )
  mine = oracle.ours(found, batch, dtype=dtype)
  mask = batch["segments"]
  if not roles:
    oracle.close(mine["hidden"], theirs.last_hidden_state, limit, mask)
  for role in roles:
    expected = (
      theirs.prediction_logits
      if "PreTraining" in name and role == "masked_lm"
      else theirs.seq_relationship_logits
      if "PreTraining" in name
      else theirs.logits
    )
    if role in ("classify", "next_sentence"):
      rows = slice(0, 2) if "PreTraining" in name else slice(None)
      oracle.close(mine[role][rows, 0], expected[rows], limit)
    else:
      oracle.close(mine[role], expected, limit, mask)
  return found


@pytest.fixture
def exact_rotary(monkeypatch):
  """Angles and turns of ModernBERT in float64, as transformers has not."""

  oracle.exact_modernbert(monkeypatch.setattr)


@pytest.mark.parametrize("name", CASES)
def test_every_class_in_float64(name, tmp_path, exact_rotary):
  compare(name, made(name, CASES[name][0]), tmp_path, 1e-9)


@pytest.mark.parametrize(
  "name",
  [
    "BertForPreTraining",
    "RobertaForMaskedLM",
    "GPT2LMHeadModel",
    "ModernBertForMaskedLM",
  ],
)
def test_language_models_in_float32(name, tmp_path):
  # Narrower than in float64, where it is bugs that must show, not rounding.
  config = made(name, CASES[name][0]).config
  model = oracle.draw(
    getattr(transformers, name)(config), std=0.15, dtype=torch.float32
  )
  compare(name, model, tmp_path, 2e-5, dtype=np.float32)


def test_modernbert_as_transformers_rounds_its_angles(tmp_path):
  name = "ModernBertForMaskedLM"
  compare(name, made(name, MODERN), tmp_path, 1e-6)


def test_modernbert_with_all_biases(tmp_path, exact_rotary):
  name = "ModernBertForMaskedLM"
  found = compare(name, made(name, BIASED), tmp_path, 1e-9)
  assert found.model["order"] == ("first", "local", "wide", "local", "wide")
  assert found.model["layers"]["local"]["feedforward"]["input_bias"]


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_bert_activations(activation, tmp_path):
  name = "BertForMaskedLM"
  compare(name, made(name, BERT, hidden_act=activation), tmp_path, 1e-9)


def test_roberta_positions_follow_the_mask(tmp_path):
  # Left- and right-padded copies of a row give equal real outputs.
  found = oracle.imported(made("RobertaModel", BERT), tmp_path)
  row = oracle.batch(VOCAB)["inputs"][2, 5:]
  pad = [oracle.PAD] * 5
  inputs = np.array([[*pad, *row], [*row, *pad]], np.int32)
  batch = {"inputs": inputs, "segments": (inputs != oracle.PAD).astype(int)}
  hidden = oracle.ours(found, batch)["hidden"]
  np.testing.assert_allclose(hidden[0, 5:], hidden[1, :-5], atol=1e-12)


def test_regression_and_labels(tmp_path):
  names = {0: "score"}
  model = made(
    "BertForSequenceClassification",
    BERT,
    num_labels=1,
    problem_type="regression",
    id2label=names,
  )
  found = oracle.imported(model, tmp_path)
  assert tuple(found.model["heads"]) == ("regress",)
  assert found.labels == ("score",)


def test_shards(tmp_path):
  model = made("BertForMaskedLM", BERT)
  model.save_pretrained(tmp_path / "one")
  model.save_pretrained(tmp_path / "many", max_shard_size="8KB")
  assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
  one = oracle.interop.import_folder(tmp_path / "one")
  many = oracle.interop.import_folder(tmp_path / "many")
  for path, array in oracle.jax.tree.leaves_with_path(one.params):
    other = many.params
    for key in path:
      other = other[key.key]
    assert np.array_equal(array, other)


def test_pickled_weights(tmp_path):
  model = made("BertForMaskedLM", BERT)
  model.save_pretrained(tmp_path / "safe")
  model.config.save_pretrained(tmp_path / "pickled")
  torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
  safe = oracle.interop.import_folder(tmp_path / "safe")
  pickled = oracle.interop.import_folder(tmp_path / "pickled")
  equal = oracle.jax.tree.map(np.array_equal, safe.params, pickled.params)
  assert all(oracle.jax.tree.leaves(equal))


def test_bfloat16_weights(tmp_path):
  model = made("GPT2LMHeadModel", GPT2).to(torch.bfloat16)
  found = oracle.imported(model, tmp_path, dtype=np.float32)
  table = model.transformer.wte.weight.float().detach().numpy()
  assert np.array_equal(found.params["embeddings"]["table"], table)
