"""BART of transformers against ours, both ways."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import bart  # noqa: E402
from tests.hf import oracle, pairs  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB = 61
HEAD = "BartForConditionalGeneration"
SETTINGS = dict(
  vocab_size=VOCAB,
  d_model=24,
  encoder_layers=2,
  decoder_layers=3,
  encoder_attention_heads=3,
  decoder_attention_heads=4,
  encoder_ffn_dim=40,
  decoder_ffn_dim=32,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  attn_implementation="eager",
)
CASES = {
  "BartModel": ("BartModel", {}, ()),
  "plain": (HEAD, {}, ("seq2seq_lm",)),
  "scaled": (HEAD, dict(scale_embedding=True), ("seq2seq_lm",)),
  "tangent": (HEAD, dict(activation_function="gelu_new"), ("seq2seq_lm",)),
}


def made(name, changes):
  config = transformers.BartConfig(**{**SETTINGS, **changes})
  model = oracle.draw(getattr(transformers, name)(config))
  if name == HEAD:
    random = torch.Generator().manual_seed(1)
    model.final_logits_bias = torch.randn(
      (1, VOCAB), generator=random, dtype=torch.float64
    )
  return model


@pytest.mark.parametrize("case", CASES)
def test_every_class_in_float64(case, tmp_path):
  name, changes, heads = CASES[case]
  pairs.check_import(made(name, changes), tmp_path, VOCAB, heads)


@pytest.mark.parametrize(
  "changes",
  [
    {},
    dict(
      embeddings=dict(kind="scaled_token"),
      heads=dict(seq2seq_lm=dict(kind="seq2seq_lm", output_bias=True)),
    ),
  ],
)
def test_our_models_go_to_their_class(changes, tmp_path):
  spec = bart.get_config("tiny").model.to_dict() | dict(vocab_size=VOCAB)
  spec |= changes
  params, _ = pairs.check_export(spec, tmp_path / "out", HEAD)
  # The same by hand, without jaxlm's own comparison.
  model = transformers.BartForConditionalGeneration.from_pretrained(
    tmp_path / "out", attn_implementation="eager"
  ).eval()
  held = pairs.batch(VOCAB)
  expected = pairs.theirs(model, held).logits
  mine = oracle.run(spec, params, held)["seq2seq_lm"]
  oracle.close(mine, expected, 1e-9, pairs.TARGET_MASK)


@pytest.mark.parametrize("variant", ["base", "large"])
def test_sizes_are_those_of_transformers(variant):
  """The class counts what tests/test_recipes.py expects of us."""
  from tests.test_recipes import PUBLISHED

  depth, width, heads, vocab, _ = bart.SIZES[variant]
  sizes = {}
  for side in ("encoder", "decoder"):
    sizes[f"{side}_layers"] = depth
    sizes[f"{side}_attention_heads"] = heads
    sizes[f"{side}_ffn_dim"] = 4 * width
  config = transformers.BartConfig(vocab_size=vocab, d_model=width, **sizes)
  with torch.device("meta"):
    model = transformers.BartForConditionalGeneration(config)
  count = sum(p.numel() for p in model.parameters())
  assert count == PUBLISHED["bart", variant]


def test_an_encoder_of_other_heads_than_the_decoder_is_told_apart(tmp_path):
  """Sizes of the two sides are keys of their own."""
  found = oracle.imported(made(HEAD, {}), tmp_path, dtype=np.float64)
  towers = found.model["towers"]
  heads = [
    towers[name]["layers"]["layer"]["mixer"]["heads"]
    for name in ("encoder", "decoder")
  ]
  assert heads == [3, 4]
  assert [towers[n]["depth"] for n in ("encoder", "decoder")] == [2, 3]
