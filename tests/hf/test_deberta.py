"""DeBERTa v1, v2 and V3 of transformers against ours, both ways."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers.models.deberta import modeling_deberta  # noqa: E402

from configs import deberta as deberta_config  # noqa: E402
from jaxlm import interop  # noqa: E402
from jaxlm.interop import layout  # noqa: E402
from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
# Heads of 12 channels: transformers takes sqrt(3 * 12) in float32, exact here.
COMMON = dict(
  vocab_size=VOCAB,
  hidden_size=24,
  num_hidden_layers=3,
  num_attention_heads=2,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
  relative_attention=True,
  pos_att_type=["p2c", "c2p"],
  position_biased_input=False,
  legacy=False,
)
V1 = dict(COMMON, type_vocab_size=2)
V3 = dict(
  COMMON,
  position_buckets=4,
  max_relative_positions=40,  # transformers does not clip longer distances
  norm_rel_ebd="layer_norm",
  share_att_key=True,
)
V2 = dict(V3, conv_kernel_size=3, conv_act="gelu")
CASES = {
  "v1": ("Deberta", V1),
  "v1_biased": ("Deberta", dict(V1, position_biased_input=True)),
  "v2": ("DebertaV2", V2),
  "v3": ("DebertaV2", V3),
  "v2_apart": (
    "DebertaV2",
    dict(V3, share_att_key=False, norm_rel_ebd="none", type_vocab_size=2),
  ),
  "v2_distances": (
    "DebertaV2",
    dict(V2, position_buckets=-1, conv_act="tanh", position_biased_input=True),
  ),
}
HEADS = {
  "Model": None,
  "ForMaskedLM": "masked_lm",
  "ForSequenceClassification": "classify",
  "ForTokenClassification": "tag",
}


@pytest.fixture(autouse=True)
def exact_norm(monkeypatch):
  """v1's norm in float64, which transformers rounds to float32."""

  def forward(self, x):
    scale = torch.sqrt(x.var(-1, keepdim=True, correction=0) + self.eps)
    return self.weight * (x - x.mean(-1, keepdim=True)) / scale + self.bias

  cls = modeling_deberta.DebertaLayerNorm
  monkeypatch.setattr(cls, "forward", forward)
  monkeypatch.setattr(cls, "eps", property(lambda s: s.variance_epsilon), False)


def made(case, head="Model", **changes):
  family, settings = CASES[case]
  config = getattr(transformers, f"{family}Config")(**{**settings, **changes})
  return oracle.draw(getattr(transformers, f"{family}{head}")(config))


def batch(case, head):
  """Rows of the oracle; first tokens are read, so no padding before them."""
  left = head != "ForSequenceClassification"
  types = CASES[case][1].get("type_vocab_size", 0) > 0
  return oracle.batch(VOCAB, left=left, types=types)


def compare(model, case, head, mine, limit):
  """Hidden states, and the head's output where there is one."""
  inputs = batch(case, head)
  theirs = oracle.theirs(
    model, inputs, positions=True, output_hidden_states=True
  )
  mask, role = inputs["segments"], HEADS[head]
  oracle.close(mine["hidden"], theirs.hidden_states[-1], limit, mask)
  if role == "classify":
    oracle.close(mine[role][:, 0], theirs.logits, limit)
  elif role:
    oracle.close(mine[role], theirs.logits, limit, mask)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("case", ["v1", "v2"])
def test_every_class_in_float64(case, head, tmp_path):
  model = made(case, head)
  found = oracle.imported(model, tmp_path)
  roles = (HEADS[head],) if HEADS[head] else ()
  assert (tuple(found.model["heads"]), found.ignored) == (roles, ())
  mine = oracle.ours(found, batch(case, head))
  compare(model, case, head, mine, 1e-9)


@pytest.mark.parametrize("case", sorted({*CASES} - {"v1", "v2"}))
def test_every_form_in_float64(case, tmp_path):
  model = made(case, "ForMaskedLM")
  found = oracle.imported(model, tmp_path)
  assert found.model["kind"] == "encoder"
  mine = oracle.ours(found, batch(case, "ForMaskedLM"))
  compare(model, case, "ForMaskedLM", mine, 1e-9)


@pytest.mark.parametrize("case", ["v1", "v3"])
def test_the_legacy_head_is_read(case, tmp_path):
  model = made(case, "ForMaskedLM", legacy=True)
  found = oracle.imported(model, tmp_path)
  assert found.ignored == ()
  mine = oracle.ours(found, batch(case, "ForMaskedLM"))
  compare(model, case, "ForMaskedLM", mine, 1e-9)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
@pytest.mark.parametrize("case", ["v1_biased", "v2"])
def test_exports_are_read_by_transformers(case, head, tmp_path):
  model = made(case, head)
  found = oracle.imported(model, tmp_path / "theirs")
  facts = interop.export_folder(
    tmp_path / "ours", model=found.model, params=found.params
  )
  family = CASES[case][0]
  assert facts["architecture"] == f"{family}{head}"
  again, told = getattr(transformers, f"{family}{head}").from_pretrained(
    tmp_path / "ours", output_loading_info=True, dtype=torch.float64
  )
  assert not any(told[k] for k in ("missing_keys", "unexpected_keys"))
  # v1 has biases that are loaded as float32 whatever is asked for.
  again = again.double().eval()
  again.load_state_dict(load_file(tmp_path / "ours" / "model.safetensors"))
  mine = oracle.ours(found, batch(case, head))
  compare(again, case, head, mine, 1e-9)
  known, other = model.state_dict(), again.state_dict()
  assert known.keys() == other.keys()
  assert all(torch.equal(known[name], other[name]) for name in known)


def test_v1_as_transformers_rounds_its_norms(tmp_path, monkeypatch):
  monkeypatch.undo()
  model = made("v1", "ForMaskedLM")
  found = oracle.imported(model, tmp_path)
  mine = oracle.ours(found, batch("v1", "ForMaskedLM"))
  compare(model, "v1", "ForMaskedLM", mine, 1e-4)


def released(model, folder):
  """A file of the release: the same names, and absolute positions besides."""
  tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
  generator = torch.Generator().manual_seed(5)
  shape = (model.config.max_position_embeddings, model.config.hidden_size)
  rows = 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
  tensors["deberta.embeddings.position_embeddings.weight"] = rows
  tensors["mask_predictions.classifier.bias"] = torch.zeros(1)
  folder.mkdir()
  save_file(tensors, folder / "model.safetensors")
  values = model.config.to_dict()
  values.pop("legacy")
  values.pop("architectures", None)
  values["pos_att_type"] = "c2p|p2c"
  (folder / "config.json").write_text(json.dumps(values))
  return rows


@pytest.mark.parametrize("case", ["v1", "v2"])
def test_released_files_decode_masks_as_the_release(case, tmp_path):
  """Queries start at h plus absolute positions, twice through one layer."""
  model = made(case, "ForMaskedLM")
  rows = released(model, tmp_path / "released")
  found = interop.import_folder(tmp_path / "released", dtype=np.float64)
  assert found.model["kind"] == "mask_decoding_encoder"
  assert found.ignored == ("mask_predictions.classifier.bias",)
  inputs = batch(case, "ForMaskedLM")
  mine = oracle.ours(found, inputs)
  theirs = oracle.theirs(
    model, inputs, positions=True, output_hidden_states=True
  )
  mask = inputs["segments"]
  oracle.close(mine["hidden"], theirs.hidden_states[-1], 1e-9, mask)
  encoder, before = model.deberta.encoder, theirs.hidden_states[-2]
  query = before + rows[torch.tensor(inputs["positions"]).long()]
  with torch.no_grad():
    for _ in range(2):
      query = passed_again(encoder, before, query, mask)
    table = model.deberta.embeddings.word_embeddings
    logits = model.lm_predictions(query, table)
  oracle.close(mine["masked_lm"], logits, 1e-9, mask)
  assert (logits - theirs.logits).abs().numpy()[mask > 0].max() > 0.1


def passed_again(encoder, before, query, mask):
  """The last layer of transformers with queries apart.

  v1 of transformers cannot split its fused map for that (it transposes three
  axes): there the map of the queries gets its input in place of the keys'.
  """
  layer = encoder.layer[-1]
  given = dict(
    relative_pos=encoder.get_rel_pos(before),
    rel_embeddings=encoder.get_rel_embedding(),
  )
  seen = encoder.get_attention_mask(torch.tensor(mask))
  attention = layer.attention.self
  if not hasattr(attention, "in_proj"):
    return layer(before, seen, query_states=query, **given)[0]
  fused, per = attention.in_proj, attention.attention_head_size
  first = torch.arange(fused.out_features) % (3 * per) < per
  run = lambda x: torch.where(
    first,
    torch.nn.functional.linear(query, fused.weight),
    torch.nn.functional.linear(x, fused.weight),
  )
  attention.in_proj = run_module(run)
  mixed = attention(before, seen, **given)[0]
  attention.in_proj = fused
  hidden = layer.attention.output(mixed, query)
  return layer.output(layer.intermediate(hidden), hidden)


def run_module(function):
  """A module that computes a function."""

  class Made(torch.nn.Module):
    def forward(self, x):
      return function(x)

  return Made()


def test_what_decodes_masks_is_exported_without_its_decoder(tmp_path):
  spec = deberta_config.get_config("tiny").model.to_dict()
  spec["vocab_size"] = VOCAB
  spec["heads"]["topic"] = dict(kind="classify", classes=CLASSES)
  spec["heads"]["topic"]["pooler_activation"] = "gelu"
  params = oracle.random_params(spec)
  facts = interop.export_folder(tmp_path / "out", model=spec, params=params)
  assert facts["architecture"] == "DebertaV2ForSequenceClassification"
  assert set(facts["differences"]["transformers"]) == {"hidden", "classify"}
  assert facts["largest_difference"] < 1e-5
  again = interop.import_folder(tmp_path / "out", dtype=np.float64)
  assert again.model["kind"] == "encoder" and again.ignored == ()
  kept = layout.flat(again.params, again.model)
  assert not any("masked_lm" in k or k == "positions/table" for k in kept)
