"""Tiny random models and vocabularies that the tests of this room share."""

from typing import Any, NamedTuple

import jax
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from jaxlm.data.tokenizer import Tokenizer
from jaxlm.models import assembly
from jaxlm.types import Task
from tests import tiny

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = [*"abcdefghijklmn", "the", "cat", "dog", "sat", "ran"]
WORDS += ["##s", "##ing", ".", ","]


class Loaded(NamedTuple):
  model: Any
  variables: Any
  tokenizer: Any
  labels: tuple[str, ...] = ()
  task: str | None = None
  source: str = "toy"


def wordpiece() -> Tokenizer:
  """BERT's conventions: [CLS] a [SEP]."""
  vocab = {piece: i for i, piece in enumerate([*SPECIALS, *WORDS])}
  pipeline = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
  pipeline.normalizer = normalizers.BertNormalizer()
  pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  pipeline.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
  )
  pipeline.add_special_tokens(list(SPECIALS))
  roles = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIALS))
  return Tokenizer(pipeline.to_str(), roles)


def end_of_text() -> Tokenizer:
  """GPT-2's conventions: one token that begins, ends and pads."""
  vocab = {w: i for i, w in enumerate(["<|endoftext|>", "the", "cat", "sat"])}
  vocab |= {c: len(vocab) + i for i, c in enumerate("abcdefghijkl")}
  pipeline = tokenizers.Tokenizer(
    models.WordLevel(vocab, unk_token="<|endoftext|>")
  )
  pipeline.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  pipeline.add_special_tokens(["<|endoftext|>"])
  roles = dict.fromkeys(("unk", "bos", "eos"), "<|endoftext|>")
  return Tokenizer(pipeline.to_str(), roles)


def build(kind: str, heads: dict, vocab_size: int, *, seed=0, length=32):
  """(model, variables) with weights drawn wide, so that scores differ."""
  spec = dict(
    kind=kind,
    width=16,
    vocab_size=vocab_size,
    embeddings=dict(kind="token"),
    positions=dict(kind="learned", max_length=length),
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(kind="attention", heads=2, causal=kind == "decoder"),
        feedforward=dict(kind="mlp", hidden=32),
      )
    ),
    heads=heads,
  )
  model = assembly.build(spec)
  shapes = tiny.shapes(model, {"inputs": np.ones((1, 4), np.int32)})
  variables = tiny.fill(shapes, seed=seed)
  return model, jax.tree.map(np.asarray, variables)


def masked(**heads) -> Loaded:
  tokenizer = wordpiece()
  heads = heads or {"masked_lm": dict(kind="masked_lm")}
  model, variables = build("encoder", heads, tokenizer.vocab_size)
  return Loaded(model, variables, tokenizer)


def causal() -> Loaded:
  tokenizer = end_of_text()
  heads = {"causal_lm": dict(kind="causal_lm")}
  model, variables = build("decoder", heads, tokenizer.vocab_size)
  return Loaded(model, variables, tokenizer)


_COMPILED: dict = {}


def jitted(model, head: str):
  """(variables, batch) -> the output of a head."""
  key = (id(model), head)
  if key not in _COMPILED:
    run = jax.jit(lambda variables, batch: model.apply(variables, batch)[head])
    _COMPILED[key] = (model, run)  # the model stays alive, and so its id
  return _COMPILED[key][1]


def forward(loaded: Loaded, ids: list[int], head: str) -> np.ndarray:
  """Outputs of one row [len(ids), ...], padded on the right to 32 tokens."""
  inputs = np.zeros((1, 32), np.int32)
  inputs[0, : len(ids)] = ids
  segments = (np.arange(32)[None] < len(ids)).astype(np.int32)
  batch = {"inputs": inputs, "segments": segments}
  outputs = jitted(loaded.model, head)(loaded.variables, batch)
  return np.asarray(outputs)[0, : len(ids)]


def task_of(rows: dict, size: int, name="toy") -> Task:
  """A Task in order whose last batch repeats rows, at weight 1 on purpose.

  The rows beyond the epoch must be dropped by the reader.
  """
  count = len(rows["inputs"])

  def batch_at(seed, step, shard=(0, 1)):
    assert shard == (0, 1)
    at = np.arange(step * size, (step + 1) * size) % count
    return {key: value[at] for key, value in rows.items()}

  spec = {
    key: jax.ShapeDtypeStruct((size, *value.shape[1:]), value.dtype)
    for key, value in rows.items()
  }
  return Task(name, spec, batch_at, count)
