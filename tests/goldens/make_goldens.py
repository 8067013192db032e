"""Writes the goldens beside this file, from transformers.

  cd <repository> && PYTHONPATH=. <hf environment>/bin/python \
      tests/goldens/make_goldens.py

Needs requirements-hf.txt. One `<name>.json` (config.json of transformers,
names and shapes of its tensors, versions) and one `<name>.npz` (float64
results) for each model; weights and tokens follow `formula.py`.
"""

import json
import pathlib
import tempfile

import numpy as np
import safetensors.torch
import torch
import transformers

from configs import mosaicbert
from jaxlm.interop import description, layout, names
from jaxlm.interop.families import general
from tests.goldens import formula
from tests.hf import oracle

HERE = pathlib.Path(__file__).parent
VOCAB, ROWS, LENGTH, REAL, PAD = 37, 2, 9, 6, 1
ENCODER = dict(
  vocab_size=VOCAB,
  hidden_size=12,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=20,
  max_position_embeddings=16,
  pad_token_id=PAD,
  attn_implementation="eager",
)
MODELS = {
  "bert": ("BertForPreTraining", transformers.BertConfig, ENCODER),
  "roberta": ("RobertaForMaskedLM", transformers.RobertaConfig, ENCODER),
  "gpt2": (
    "GPT2LMHeadModel",
    transformers.GPT2Config,
    dict(
      vocab_size=VOCAB,
      n_embd=12,
      n_layer=2,
      n_head=2,
      n_positions=16,
      pad_token_id=PAD,
      bos_token_id=0,
      eos_token_id=0,
      attn_implementation="eager",
    ),
  ),
  "modernbert": (
    "ModernBertForMaskedLM",
    transformers.ModernBertConfig,
    dict(
      ENCODER,
      num_hidden_layers=4,
      local_attention=4,
      bos_token_id=2,
      eos_token_id=3,
      cls_token_id=2,
      sep_token_id=3,
      attn_implementation="sdpa",
    ),
  ),
}


def inputs(types: bool) -> dict[str, np.ndarray]:
  """The batch that `test_goldens.py` also makes."""
  tokens = formula.tokens(VOCAB, ROWS, LENGTH)
  mask = np.ones((ROWS, LENGTH), np.int32)
  mask[1, REAL:] = 0
  made = {"inputs": np.where(mask, tokens, PAD), "segments": mask}
  if types:
    made["types"] = np.where(mask, np.arange(LENGTH) >= 4, 0).astype(np.int32)
  return made


def fill(model) -> dict[str, list[int]]:
  """Weights by the formula; names and shapes of what is saved."""
  model.double().eval()
  with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    held = safetensors.torch.load_file(f"{folder}/model.safetensors")
  by_name = dict(model.named_parameters())
  with torch.no_grad():
    for name in held:
      by_name[name].copy_(torch.tensor(formula.weight(name, held[name].shape)))
  return {name: list(tensor.shape) for name, tensor in sorted(held.items())}


def results(model, types: bool) -> dict[str, np.ndarray]:
  """Logits of every head and hidden states."""
  made = oracle.theirs(model, inputs(types), output_hidden_states=True)
  found = {"hidden": made.hidden_states[-1]} if made.hidden_states else {}
  if hasattr(made, "prediction_logits"):
    found["masked_lm"] = made.prediction_logits
    found["next_sentence"] = made.seq_relationship_logits
  else:
    found["logits"] = made.logits
  return {name: value.numpy() for name, value in found.items()}


def write(name, config, shapes, found):
  """The two files of a golden."""
  about = {
    "config": config,
    "tensors": shapes,
    "made_with": {
      "transformers": transformers.__version__,
      "torch": torch.__version__,
    },
  }
  text = json.dumps(about, indent=1, sort_keys=True) + "\n"
  (HERE / f"{name}.json").write_text(text, encoding="utf-8")
  np.savez_compressed(HERE / f"{name}.npz", **found)


def of_transformers():
  """BERT, RoBERTa, GPT-2, ModernBERT."""
  oracle.exact_modernbert(setattr)
  for name, (cls, config, settings) in MODELS.items():
    model = getattr(transformers, cls)(config(**settings))
    shapes = fill(model)
    found = results(model, name == "bert")
    if name == "gpt2":
      prompt = torch.tensor(formula.tokens(VOCAB, ROWS, 5)).long()
      found["generated"] = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=PAD,
      )[:, 5:].numpy()
    with tempfile.TemporaryDirectory() as folder:
      model.config.architectures = [cls]
      model.config.save_pretrained(folder)
      held = json.loads(pathlib.Path(folder, "config.json").read_text())
    write(name, held, shapes, found)


def of_mosaicbert():
  """MosaicBERT, which only our own PyTorch code computes."""
  from jaxlm.interop.exported import modeling_jaxlm

  spec = mosaicbert.get_config("tiny").model.to_dict()
  spec |= {"width": 12, "vocab_size": VOCAB}
  del spec["embeddings"]["pad_to_multiple"]
  spec["layers"]["layer"]["feedforward"]["hidden"] = 20
  said = description.describe(spec)
  shapes = {
    leaf.theirs: list(names.shape(leaf, layout.shapes(spec)[leaf.ours]))
    for leaf in names.present(general.leaves(said), layout.shapes(spec))
  }
  config = {**general.config(said, {}), "architectures": ["JaxlmForMaskedLM"]}
  model = modeling_jaxlm.JaxlmForMaskedLM(
    modeling_jaxlm.JaxlmConfig(model=said)
  )
  assert fill(model) == dict(sorted(shapes.items()))
  write("mosaicbert", config, shapes, results(model, True))


if __name__ == "__main__":
  of_transformers()
  of_mosaicbert()
