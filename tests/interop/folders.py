"""Tiny models, vocabularies and folders to import and export."""

import importlib
import json

import flax.linen as nn
import jax
import numpy as np
import tokenizers

from jaxlm.data.tokenizer import Tokenizer
from jaxlm.interop import checkpoint
from jaxlm.models import assembly

VOCAB = 61
SPECIALS = {
  "pad": "[PAD]",
  "unk": "[UNK]",
  "cls": "[CLS]",
  "sep": "[SEP]",
  "mask": "[MASK]",
}


def spec(name, *, heads=None, **changes):
  """The tiny model of a config with a small vocabulary."""
  module = importlib.import_module(f"configs.{name}")
  found = module.get_config("tiny").model.to_dict()
  found |= {"vocab_size": VOCAB, **changes}
  return found if heads is None else {**found, "heads": heads}


def params(spec, seed=0):
  """Normal float32 numbers for every parameter of a spec."""
  model = assembly.build(spec)
  shapes = jax.eval_shape(
    lambda key: nn.meta.unbox(
      model.init(key, {"inputs": np.ones((1, 4), np.int32)})["params"]
    ),
    jax.random.key(0),
  )
  random = np.random.default_rng(seed)
  draw = lambda leaf: random.normal(0, 0.2, leaf.shape).astype(np.float32)
  return jax.tree.map(draw, shapes)


def wordpiece(size=VOCAB, specials=SPECIALS) -> Tokenizer:
  """A vocabulary of letters, special tokens first, brackets like BERT's."""
  letters = "abcdefghijklmnopqrstuvwxyz"
  pieces = [*specials.values(), *letters, *(f"##{c}" for c in letters)]
  pieces = [*pieces, *(f"piece{i}" for i in range(size))][:size]
  model = tokenizers.models.WordPiece(
    {piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"
  )
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  made.add_special_tokens(list(specials.values()))
  made.post_processor = tokenizers.processors.TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[
      (token, pieces.index(token)) for token in ("[CLS]", "[SEP]")
    ],
  )
  return Tokenizer(made.to_str(), specials)


def change(folder, edit):
  """Edits a folder's config.json in place."""
  path = folder / "config.json"
  config = json.loads(path.read_text())
  edit(config)
  path.write_text(json.dumps(config))


def tensors(folder):
  """Name -> array of a folder."""
  held = checkpoint.Checkpoint(folder)
  return {name: held.read(name) for name in held.shapes}
