"""T5 v1.0 and v1.1 of transformers against ours, both ways."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.models.t5 import modeling_t5  # noqa: E402

from configs import t5  # noqa: E402
from jaxlm import interop  # noqa: E402
from jaxlm.models import generation  # noqa: E402
from tests.hf import oracle, pairs  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB = 61

OLD = dict(
  vocab_size=VOCAB,
  d_model=24,
  d_kv=8,
  d_ff=40,
  num_layers=2,
  num_heads=3,
  relative_attention_num_buckets=8,
  relative_attention_max_distance=10,
  pad_token_id=oracle.PAD,
  decoder_start_token_id=oracle.PAD,
  attn_implementation="eager",
)
NEW = dict(
  OLD,
  d_kv=6,
  num_decoder_layers=3,
  feed_forward_proj="gated-gelu",
  tie_word_embeddings=False,
)
HEAD = "T5ForConditionalGeneration"
CASES = {
  "T5Model": ("T5Model", OLD, ()),
  "v1.0": (HEAD, OLD, ("seq2seq_lm",)),
  "v1.1": (HEAD, NEW, ("seq2seq_lm",)),
  "relu without scale": (
    HEAD,
    dict(OLD, tie_word_embeddings=False),
    ("seq2seq_lm",),
  ),
}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
  """Their norm squares in float32, whatever it is given."""

  def forward(self, x):
    variance = x.pow(2).mean(-1, keepdim=True)
    return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))

  monkeypatch.setattr(modeling_t5.T5LayerNorm, "forward", forward)


def made(name, settings):
  model = getattr(transformers, name)(transformers.T5Config(**settings))
  if settings.get("tie_word_embeddings") is False:
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
  return oracle.draw(model)


@pytest.mark.parametrize("case", CASES)
def test_every_class_in_float64(case, tmp_path):
  name, settings, heads = CASES[case]
  pairs.check_import(made(name, settings), tmp_path, VOCAB, heads)


def test_v1_1_is_told_by_what_transformers_5_writes(tmp_path):
  """Its config.json says that all is tied, and keeps another key."""
  model = made(HEAD, NEW)
  model.save_pretrained(tmp_path)
  held = json.loads((tmp_path / "config.json").read_text())
  assert held["scale_decoder_outputs"] is False
  head = interop.import_folder(tmp_path).model["heads"]["seq2seq_lm"]
  assert (head["tied"], head["scaled"]) == (False, False)


def test_a_file_of_older_versions_is_read(tmp_path):
  """They write 'tie_word_embeddings' as it is, and copies of the table."""
  from safetensors import torch as safetensors

  model = made(HEAD, OLD)
  model.save_pretrained(tmp_path)
  held = json.loads((tmp_path / "config.json").read_text())
  held.pop("scale_decoder_outputs")
  (tmp_path / "config.json").write_text(json.dumps(held))
  tensors = safetensors.load_file(tmp_path / "model.safetensors")
  for name in ("encoder.embed_tokens.weight", "lm_head.weight"):
    tensors[name] = model.shared.weight.detach().clone()
  unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias"
  tensors[f"{unused}.weight"] = torch.zeros(8, 3)
  safetensors.save_file(tensors, tmp_path / "model.safetensors")
  found = interop.import_folder(tmp_path, dtype=np.float64)
  assert found.ignored == ()
  held = pairs.batch(VOCAB)
  expected = pairs.theirs(model, held).logits
  mine = oracle.ours(found, held)["seq2seq_lm"]
  oracle.close(mine, expected, 1e-9, pairs.TARGET_MASK)


@pytest.mark.parametrize("variant", ["tiny", "tiny_v1_1"])
def test_our_models_go_to_their_class(variant, tmp_path):
  spec = t5.get_config(variant).model.to_dict() | dict(vocab_size=VOCAB)
  params, _ = pairs.check_export(spec, tmp_path / "out", HEAD)
  # The same by hand, without jaxlm's own comparison.
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / "out", attn_implementation="eager"
  ).eval()
  held = pairs.batch(VOCAB)
  expected = pairs.theirs(model, held).logits
  mine = oracle.run(spec, params, held)["seq2seq_lm"]
  oracle.close(mine, expected, 1e-9, pairs.TARGET_MASK)


@pytest.mark.parametrize(
  ("variant", "name"),
  [("small", "v1.0"), ("base", "v1.0"), ("v1_1_small", "v1.1")],
)
def test_sizes_are_those_of_transformers(variant, name):
  """The class counts what tests/test_recipes.py expects of us."""
  from tests.test_recipes import PUBLISHED

  depth, width, heads, dim, hidden, vocab, _, new = t5.SIZES[variant]
  settings = transformers.T5Config(
    vocab_size=vocab,
    d_model=width,
    d_kv=dim or width // heads,
    d_ff=hidden,
    num_layers=depth,
    num_heads=heads,
    feed_forward_proj="gated-gelu" if new else "relu",
    tie_word_embeddings=not new,
  )
  with torch.device("meta"):
    model = transformers.T5ForConditionalGeneration(settings)
  count = sum(p.numel() for p in model.parameters())
  own_output = new * vocab * width  # tied in transformers 5, not in the files
  assert count + own_output == PUBLISHED["t5", variant]


@pytest.mark.parametrize("variant", ["tiny", "tiny_v1_1"])
def test_it_writes_what_transformers_writes(variant, tmp_path):
  spec = t5.get_config(variant).model.to_dict() | dict(vocab_size=VOCAB)
  params, _ = pairs.check_export(spec, tmp_path / "out", HEAD)
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / "out"
  )
  held = pairs.batch(VOCAB)
  theirs = model.generate(
    torch.tensor(held["inputs"]),
    attention_mask=torch.tensor(held["segments"]),
    max_new_tokens=8,
    do_sample=False,
    num_beams=1,
    eos_token_id=None,
  )[:, 1:].numpy()
  with oracle.jax.enable_x64(True):
    ours = generation.generate_from(
      oracle.assembly.build(spec, dtype=np.float64, param_dtype=np.float64),
      {"params": oracle.jax.tree.map(jnp.asarray, params)},
      {k: jnp.asarray(held[k]) for k in ("inputs", "segments")},
      jnp.zeros((3, 1), jnp.int32),
      max_new_tokens=8,
      key=oracle.jax.random.key(0),
    )
  assert len(np.unique(theirs)) > 1
  np.testing.assert_array_equal(np.asarray(ours), theirs)
