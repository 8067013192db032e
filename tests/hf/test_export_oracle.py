"""What we export, read by transformers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import bert, gpt2, modernbert, mosaicbert, roberta  # noqa: E402
from jaxlm import interop  # noqa: E402
from jaxlm.models import generation  # noqa: E402
from tests.hf import oracle  # noqa: E402
from tests.interop import folders  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB = 61
NORMS = dict(
  layer=dict(kind="layer_norm", epsilon=1e-6),
  bare=dict(kind="layer_norm", epsilon=1e-5, use_bias=False),
  rms=dict(kind="rms_norm", epsilon=1e-6),
)
ALL_HEADS = dict(
  masked_lm=dict(kind="masked_lm"),
  next_sentence=dict(kind="classify", classes=2),
  topics=dict(kind="classify", classes=3, input_dropout=True, dropout=0.1),
  tag=dict(kind="tag", classes=5),
)


def published(module, **heads):
  """The `tiny` model of a config, small vocabulary, other heads if given."""
  spec = module.get_config("tiny").model.to_dict()
  spec["vocab_size"] = VOCAB
  return {**spec, "heads": heads} if heads else spec


def own(*, norm, block, mixer=None, feedforward=None, **changes):
  """A model that no class of transformers computes."""
  plain = dict(kind="attention", heads=4, **(mixer or {}))
  narrow = {**plain, "window": 4}
  part = feedforward or dict(kind="gated", hidden=40, output_bias=True)
  return (
    dict(
      kind="encoder",
      width=24,
      vocab_size=VOCAB,
      dropout=0.1,
      embeddings=dict(kind="token", types=2, pad_to_multiple=8),
      norm=NORMS[norm],
      input_norm=True,
      final_norm=block["kind"] == "pre_norm",
      layers=dict(
        wide=dict(block=block, mixer=plain, feedforward=part),
        narrow=dict(block=block, mixer=narrow, feedforward=part),
      ),
      order=("wide", "narrow", "wide", "narrow"),
      stack=dict(kind="scan"),
      heads=ALL_HEADS,
    )
    | changes
  )


STOCK = {
  "bert": (published(bert), "BertForPreTraining"),
  "bert_tags": (
    published(bert, tag=dict(kind="tag", classes=4)),
    "BertForTokenClassification",
  ),
  "bert_tuned": (
    published(
      bert,
      masked_lm=dict(kind="masked_lm"),
      classify=dict(kind="classify", classes=3),
    ),
    "BertForSequenceClassification",
  ),
  "roberta": (published(roberta), "RobertaForMaskedLM"),
  "roberta_scores": (
    published(roberta, score=dict(kind="regress", input_dropout=True)),
    "RobertaForSequenceClassification",
  ),
  "gpt2": (published(gpt2), "GPT2LMHeadModel"),
  "modernbert": (published(modernbert), "ModernBertForMaskedLM"),
}
OWN = {
  "mosaicbert": published(mosaicbert),
  "demo": own(
    norm="bare",
    block=dict(kind="pre_norm", feedforward_dropout=0.0),
    positions=dict(kind="alibi"),
  ),
  "rotary": own(
    norm="rms",
    block=dict(kind="pre_norm"),
    positions=dict(kind="rotary", theta=500.0),
    mixer=dict(key_heads=2, head_dim=8, use_bias=False),
  ),
  "buckets": own(
    norm="layer",
    block=dict(kind="post_norm"),
    positions=dict(kind="relative_buckets", buckets=8, max_distance=9),
    feedforward=dict(kind="mlp", hidden=32, activation="relu"),
    embeddings=dict(kind="factorized", types=0, table_width=12),
  ),
  "llama": own(
    norm="rms",
    block=dict(kind="pre_norm"),
    positions=dict(kind="rotary"),
    mixer=dict(causal=True, use_bias=False),
    feedforward=dict(kind="gated", hidden=32, activation="silu"),
    kind="decoder",
    heads=dict(causal_lm=dict(kind="causal_lm", tied=False)),
  ),
  "sines": own(
    norm="layer",
    block=dict(kind="pre_norm"),
    positions=dict(kind="sinusoidal", theta=100.0),
    feedforward=dict(kind="gated", hidden=32, activation="silu"),
    heads=dict(score=dict(kind="regress", pooler=False)),
  ),
  "decoder": own(
    norm="rms",
    block=dict(kind="pre_norm"),
    positions=dict(kind="learned", max_length=32),
    mixer=dict(causal=True),
    kind="decoder",
    heads=dict(
      causal_lm=dict(kind="causal_lm"),
      classify=dict(kind="classify", classes=3, pooler=False),
    ),
  ),
}


def exported(spec, folder, **more):
  """Random wide parameters in float64, and the facts of their export."""
  params = oracle.random_params(spec)
  return params, interop.export_folder(
    folder, model=spec, params=params, **more
  )


@pytest.mark.parametrize("name", STOCK)
def test_known_architectures_go_to_their_class(name, tmp_path):
  spec, architecture = STOCK[name]
  _, facts = exported(spec, tmp_path / "out")
  limit = 1e-6 if "modern" in name else 1e-9
  assert facts["architecture"] == architecture
  assert facts["why_own_code"] == ""
  assert set(facts["differences"]["transformers"]) == {
    "hidden",
    *("regress" if n == "score" else n for n in spec["heads"]),
  }
  assert facts["largest_difference"] <= limit
  assert not (tmp_path / "out" / "modeling_jaxlm.py").exists()


@pytest.mark.parametrize("name", OWN)
def test_other_models_bring_their_code(name, tmp_path):
  _, facts = exported(OWN[name], tmp_path / "out")
  assert facts["model_type"] == "jaxlm"
  assert facts["differences"]["jaxlm"]["hidden"] == 0.0
  # sinusoids are float32 in both, by two libraries
  limit = 1e-6 if name == "sines" else 1e-9
  assert facts["largest_difference"] <= limit, facts["differences"]


def test_the_comparison_is_not_of_zeros(tmp_path):
  # The same as `facts`, by hand, without jaxlm's own comparison.
  spec = OWN["mosaicbert"]
  params, facts = exported(spec, tmp_path / "out")
  model = transformers.AutoModelForMaskedLM.from_pretrained(
    tmp_path / "out", trust_remote_code=True
  ).eval()
  batch = oracle.batch(VOCAB)
  expected = oracle.theirs(model, batch).logits
  mine = oracle.run(spec, params, batch)["masked_lm"]
  oracle.close(mine[..., :VOCAB], expected, 1e-9, batch["segments"])
  card = (tmp_path / "out" / "README.md").read_text()
  assert f"Largest difference: {facts['largest_difference']:.2g}" in card
  assert "| transformers | masked-LM logits |" in card


def test_float32_export_keeps_float32(tmp_path):
  spec = OWN["demo"]
  params = oracle.random_params(spec, std=0.1)
  params = oracle.jax.tree.map(lambda x: x.astype(np.float32), params)
  facts = interop.export_folder(tmp_path / "a", model=spec, params=params)
  assert facts["largest_difference"] <= 2e-5
  model = transformers.AutoModel.from_pretrained(
    tmp_path / "a", trust_remote_code=True
  )
  assert model.dtype == torch.float32


def test_own_code_trains_and_saves_itself(tmp_path):
  exported(OWN["demo"], tmp_path / "out")
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    tmp_path / "out", trust_remote_code=True
  ).float()
  ids = torch.arange(2, 12).reshape(2, 5)
  made = model.train()(input_ids=ids, labels=torch.tensor([0, 2]))
  made.loss.backward()
  used = {n for n, p in model.named_parameters() if p.grad is not None}
  assert used == {n for n, _ in model.named_parameters()}
  model.eval().save_pretrained(tmp_path / "again")
  found = interop.import_folder(tmp_path / "again")
  assert list(found.model["heads"]) == ["classify"]
  mine = oracle.ours(found, {"inputs": ids.numpy()}, dtype=np.float32)
  oracle.close(mine["classify"][:, 0], model(ids).logits.detach(), 1e-4)


def test_a_new_head_on_exported_weights_is_drawn(tmp_path):
  spec = dict(OWN["demo"], heads=dict(masked_lm=dict(kind="masked_lm")))
  exported(spec, tmp_path / "out")
  model = transformers.AutoModelForMaskedLM.from_pretrained(
    tmp_path / "out", trust_remote_code=True
  )
  assert torch.isfinite(model.masked_lm.transform.weight).all()


def prompts():
  random = np.random.default_rng(3)
  tokens = random.integers(2, VOCAB, (2, 6))
  mask = np.ones((2, 6), np.int64)
  mask[1, :2] = 0  # padded on the left
  return np.where(mask, tokens, oracle.PAD), mask


def greedy(spec, params, tokens, mask, new):
  """Greedy tokens of jaxlm, in float64."""
  with oracle.jax.enable_x64(True):
    model = oracle.assembly.build(
      spec, dtype=np.float64, param_dtype=np.float64
    )
    return np.asarray(
      generation.generate(
        model,
        {"params": oracle.jax.tree.map(jnp.asarray, params)},
        jnp.asarray(tokens, jnp.int32),
        segments=jnp.asarray(mask, jnp.int32),
        max_new_tokens=new,
        key=oracle.jax.random.key(0),
      )
    )


def test_gpt2_generates_what_transformers_generates(tmp_path):
  spec = published(gpt2)
  params, _ = exported(spec, tmp_path / "out")
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
  tokens, mask = prompts()
  theirs = model.generate(
    torch.tensor(tokens),
    attention_mask=torch.tensor(mask),
    max_new_tokens=10,
    do_sample=False,
    pad_token_id=oracle.PAD,
    eos_token_id=None,
  )[:, 6:].numpy()
  assert len(np.unique(theirs)) > 1
  assert np.array_equal(greedy(spec, params, tokens, mask, 10), theirs)


def test_own_decoder_generates_in_transformers(tmp_path):
  spec = OWN["decoder"]
  params, _ = exported(spec, tmp_path / "out")
  model = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / "out", trust_remote_code=True
  )
  tokens, mask = prompts()
  theirs = model.generate(
    torch.tensor(tokens),
    attention_mask=torch.tensor(mask),
    max_new_tokens=6,
    do_sample=False,
    pad_token_id=oracle.PAD,
  )[:, 6:].numpy()
  assert np.array_equal(greedy(spec, params, tokens, mask, 6), theirs)


def test_config_json_is_what_transformers_expects(tmp_path):
  exported(
    STOCK["bert_tuned"][0], tmp_path / "out", labels=("bad", "so-so", "good")
  )
  config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
  assert config.num_labels == 3
  assert config.id2label == {0: "bad", 1: "so-so", 2: "good"}
  assert config.problem_type == "single_label_classification"
  found = interop.import_folder(tmp_path / "out")
  assert found.labels == ("bad", "so-so", "good")
  held = json.loads((tmp_path / "out" / "config.json").read_text())
  assert held["jaxlm_version"]


@pytest.mark.parametrize(
  "name", ["bert", "roberta", "gpt2", "modernbert", "demo"]
)
def test_text_through_the_exported_tokenizer(name, tmp_path):
  spec = OWN[name] if name in OWN else STOCK[name][0]
  params = oracle.random_params(spec)
  tokenizer = folders.wordpiece()
  interop.export_folder(
    tmp_path / "out", model=spec, params=params, tokenizer=tokenizer
  )
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  texts = ["abc de", "x yz abcdefg"]
  inputs = theirs(texts, return_tensors="pt", padding=True)
  ids = [tokenizer.bracket(tokenizer.encode(text))[0] for text in texts]
  for row, mask, expected in zip(
    inputs["input_ids"], inputs["attention_mask"], ids
  ):
    assert row[mask > 0].tolist() == expected
  auto = "AutoModelForCausalLM" if name == "gpt2" else "AutoModelForMaskedLM"
  model = getattr(transformers, auto).from_pretrained(
    tmp_path / "out", trust_remote_code=True
  )
  with torch.no_grad():
    expected = model(**inputs).logits
  mask = inputs["attention_mask"].numpy().astype(np.int32)
  batch = {"inputs": inputs["input_ids"].numpy(), "segments": mask}
  mine = oracle.run(spec, params, batch)
  head = "causal_lm" if name == "gpt2" else "masked_lm"
  limit = 1e-6 if name == "modernbert" else 1e-9
  oracle.close(mine[head][..., :VOCAB], expected, limit, mask)
