"""GPT-2's ways to scale its scores, both ways, and its sizes."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import gpt2  # noqa: E402
from jaxlm import interop  # noqa: E402
from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB = 61
SETTINGS = dict(
  vocab_size=VOCAB,
  n_embd=24,
  n_layer=3,
  n_head=3,
  n_positions=20,
  pad_token_id=oracle.PAD,
  attn_implementation="eager",
)
SCALES = {
  "by layer": (dict(scale_attn_by_inverse_layer_idx=True), 3),
  "not at all": (dict(scale_attn_weights=False), 1),
  "by layer alone": (
    dict(scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True),
    3,
  ),
}


@pytest.mark.parametrize("name", SCALES)
def test_scaled_scores_in_float64_both_ways(name, tmp_path):
  changes, kinds = SCALES[name]
  config = transformers.GPT2Config(**SETTINGS, **changes)
  model = oracle.draw(transformers.GPT2LMHeadModel(config))
  found = oracle.imported(model, tmp_path / "in")
  assert len(found.model["layers"]) == kinds
  batch = oracle.batch(VOCAB, left=False, types=False)
  expected = oracle.theirs(model, batch).logits
  mine = oracle.ours(found, batch)["causal_lm"]
  oracle.close(mine, expected, 1e-9, batch["segments"])
  facts = interop.export_folder(
    tmp_path / "out", model=found.model, params=found.params
  )
  assert facts["architecture"] == "GPT2LMHeadModel"
  assert facts["largest_difference"] <= 1e-9
  again = transformers.AutoConfig.from_pretrained(tmp_path / "out")
  for key in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx"):
    assert getattr(again, key) == getattr(config, key), key


@pytest.mark.parametrize("variant", ["small", "medium", "large", "xl"])
def test_sizes_are_those_of_transformers(variant):
  """The class counts what tests/test_recipes.py expects of us."""
  from tests.test_recipes import PUBLISHED

  depth, width, heads, vocab, length = gpt2.SIZES[variant]
  config = transformers.GPT2Config(
    vocab_size=vocab,
    n_embd=width,
    n_layer=depth,
    n_head=heads,
    n_positions=length,
  )
  with torch.device("meta"):
    model = transformers.GPT2LMHeadModel(config)
  count = sum(p.numel() for p in model.parameters())
  assert count == PUBLISHED["gpt2", variant]
