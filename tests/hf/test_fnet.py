"""FNet of transformers against ours, both ways."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import fnet  # noqa: E402
from jaxlm import paths  # noqa: E402
from tests.hf import families, oracle  # noqa: E402
from tests.test_recipes import shapes  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
TINY = dict(
  vocab_size=VOCAB,
  hidden_size=24,
  num_hidden_layers=2,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
)
CASES = {
  "FNetModel": "hidden",
  "FNetForMaskedLM": "masked_lm",
  "FNetForSequenceClassification": "classify",
  "FNetForTokenClassification": "tag",
}


def made(name, **changes):
  config = transformers.FNetConfig(**{**TINY, **changes})
  return oracle.draw(getattr(transformers, name)(config))


def batch():
  """Padded rows; transforms read the padding, so its positions are told."""
  found = oracle.batch(VOCAB)
  every = np.arange(oracle.LENGTH, dtype=np.int32)[None]
  return found | {"positions": np.repeat(every, oracle.ROWS, 0)}


@pytest.mark.parametrize("name", CASES)
def test_every_class_in_float64(name, tmp_path):
  found = families.compare(made(name), tmp_path, CASES[name], batch=batch())
  assert found.model["layers"]["layer"]["mixer"]["parity"]


def test_pretraining_heads(tmp_path):
  model = made("FNetForPreTraining")
  found = oracle.imported(model, tmp_path)
  given = batch() | {"cls_positions": np.zeros((oracle.ROWS, 1), np.int32)}
  theirs, mine = oracle.theirs(model, given), oracle.ours(found, given)
  mask = given["segments"]
  oracle.close(mine["masked_lm"], theirs.prediction_logits, 1e-9, mask)
  oracle.close(
    mine["next_sentence"][:, 0], theirs.seq_relationship_logits, 1e-9
  )


def spec(parity, **heads):
  found = fnet.get_config("tiny").model.to_dict() | dict(vocab_size=VOCAB)
  found["layers"]["layer"]["mixer"] |= dict(parity=parity)
  return found | dict(heads=heads) if heads else found


@pytest.mark.parametrize("parity", [True, False])
def test_what_is_exported(parity, tmp_path):
  params, facts = families.export(spec(parity), tmp_path, "FNetForMaskedLM")
  assert bool(facts["caveat"]) is not parity
  families.again(spec(parity), params, tmp_path)


def test_a_tuned_model_is_exported(tmp_path):
  model = spec(False, classify=dict(kind="classify", classes=3))
  families.export(model, tmp_path, "FNetForSequenceClassification")


@pytest.mark.parametrize("variant", ["base", "large"])
def test_sizes_are_those_of_transformers(variant):
  depth, width, hidden, vocab, *_ = fnet.SIZES[variant]
  config = transformers.FNetConfig(
    vocab_size=vocab,
    hidden_size=width,
    num_hidden_layers=depth,
    intermediate_size=hidden,
  )
  with torch.device("meta"):
    model = transformers.FNetForMaskedLM(config)
  pooler = sum(p.numel() for p in model.fnet.pooler.parameters())
  theirs = sum(p.numel() for p in model.parameters()) - pooler
  assert paths.count(shapes("fnet", variant)) == theirs
