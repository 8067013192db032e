"""ELECTRA of transformers against ours, in and out, and two towers out."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from configs import electra  # noqa: E402
from jaxlm import interop  # noqa: E402
from jaxlm.interop import layout  # noqa: E402
from jaxlm.models import models, two_tower  # noqa: E402
from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, CLASSES = 61, 3
TINY = dict(
  vocab_size=VOCAB,
  embedding_size=12,
  hidden_size=24,
  num_hidden_layers=2,
  num_attention_heads=3,
  intermediate_size=40,
  max_position_embeddings=20,
  pad_token_id=oracle.PAD,
  num_labels=CLASSES,
  attn_implementation="eager",
)
ROLES = {
  "ElectraModel": (),
  "ElectraForMaskedLM": ("masked_lm",),
  "ElectraForPreTraining": ("replaced_token",),
  "ElectraForSequenceClassification": ("classify",),
  "ElectraForTokenClassification": ("tag",),
}


def made(name, std=0.3, **changes):
  config = transformers.ElectraConfig(**{**TINY, **changes})
  return oracle.draw(getattr(transformers, name)(config), std=std)


def compare(name, model, folder):
  """Imports what the model saved and compares hidden states and heads."""
  found = oracle.imported(model, folder)
  assert tuple(found.model["heads"]) == ROLES[name]
  assert found.ignored == ()
  batch = oracle.batch(VOCAB)
  if "SequenceClassification" in name:
    batch = {k: v[:2] for k, v in batch.items()}  # row 3 begins with padding
  theirs = oracle.theirs(
    model, batch, positions=True, output_hidden_states=True
  )
  mine = oracle.ours(found, batch)
  mask = batch["segments"]
  oracle.close(mine["hidden"], theirs.hidden_states[-1], 1e-9, mask)
  for role in ROLES[name]:
    if role == "classify":
      oracle.close(mine[role][:, 0], theirs.logits, 1e-9)
    else:
      shape = mine[role].shape
      oracle.close(mine[role], theirs.logits.reshape(shape), 1e-9, mask)
  return found


@pytest.mark.parametrize("name", ROLES)
def test_every_class_in_float64(name, tmp_path):
  found = compare(name, made(name), tmp_path)
  assert found.model["embeddings"]["kind"] == "factorized"


@pytest.mark.parametrize(
  "name", ["ElectraForPreTraining", "ElectraForMaskedLM"]
)
def test_tables_as_wide_as_the_model(name, tmp_path):
  model = made(name, std=0.6, embedding_size=24, hidden_act="gelu_new")
  found = compare(name, model, tmp_path)
  assert found.model["embeddings"]["kind"] == "token"


def small(**heads):
  """One tower of the tiny config, its vocabulary cut."""
  spec = electra.tower("discriminator", 24, 3, depth=2, table_width=12) | dict(
    vocab_size=VOCAB
  )
  return spec | dict(heads=heads)


OUT = {
  "ElectraForPreTraining": dict(judge=dict(kind="replaced_token")),
  "ElectraForMaskedLM": dict(masked_lm=dict(kind="masked_lm")),
  "ElectraForSequenceClassification": dict(
    classify=dict(
      kind="classify",
      classes=CLASSES,
      pooler_activation="gelu",
      input_dropout=True,
    )
  ),
  "ElectraForTokenClassification": dict(tag=dict(kind="tag", classes=4)),
}


@pytest.mark.parametrize("name", OUT)
def test_what_we_export_is_read_by_its_class(name, tmp_path):
  spec = small(**OUT[name])
  params = oracle.random_params(spec)
  facts = interop.export_folder(tmp_path / "out", model=spec, params=params)
  assert facts["architecture"] == name
  assert facts["why_own_code"] == ""
  assert facts["largest_difference"] <= 1e-9
  assert len(facts["differences"]["transformers"]) == 2


@pytest.mark.parametrize("sharing", two_tower.SHARED)
def test_two_towers_export_their_discriminator(sharing, tmp_path):
  spec = electra.get_config("tiny").model.to_dict()
  spec |= dict(sharing=sharing, vocab_size=VOCAB)
  params = oracle.random_params(spec)
  facts = interop.export_folder(tmp_path / "out", model=spec, params=params)
  assert facts["architecture"] == "ElectraForPreTraining"
  assert facts["largest_difference"] <= 1e-9
  # Against the towers themselves, not the tower that was taken out.
  batch = oracle.batch(VOCAB)
  theirs = oracle.theirs(
    transformers.ElectraForPreTraining.from_pretrained(
      tmp_path / "out", attn_implementation="eager"
    ).eval(),
    batch,
    positions=True,
  )
  mine = oracle.run(spec, params, batch)["replaced_token"]
  oracle.close(mine[..., 0], theirs.logits, 1e-9, batch["segments"])
  back = interop.import_folder(tmp_path / "out", dtype=np.float64)
  kept = models.entry("two_tower").build.exported(spec, params)[1]
  kept = layout.flat(kept, spec["towers"]["discriminator"])
  for path, array in layout.flat(back.params, back.model).items():
    assert np.array_equal(array, kept[path]), path


@pytest.mark.parametrize("variant", ["small", "base", "large"])
def test_published_sizes_are_those_of_transformers(variant):
  model = electra.get_config(variant).model.to_dict()
  counts = {}
  for name, kind in (
    ("generator", "ElectraForMaskedLM"),
    ("discriminator", "ElectraForPreTraining"),
  ):
    tower = model["towers"][name]
    layer = tower["layers"]["layer"]
    width = tower["width"]
    config = transformers.ElectraConfig(
      embedding_size=tower["embeddings"].get("table_width", width),
      hidden_size=width,
      num_hidden_layers=tower["depth"],
      num_attention_heads=layer["mixer"]["heads"],
      intermediate_size=layer["feedforward"]["hidden"],
    )
    with torch.device("meta"):
      theirs = getattr(transformers, kind)(config)
    theirs = {n: p.numel() for n, p in theirs.named_parameters()}
    shapes = layout.shapes({**tower, "vocab_size": 30_522})
    counts[name] = sum(int(np.prod(s)) for s in shapes.values())
    assert counts[name] == sum(theirs.values()), name
  millions = {"small": 14, "base": 110, "large": 335}[variant]
  assert abs(counts["discriminator"] / 1e6 - millions) < 0.6
