"""Pairs of texts for encoder-decoders of transformers and ours."""

import numpy as np
import torch

from jaxlm import interop
from tests.hf import oracle

TARGET = 9
# Padded, full, padded: rows of `oracle.MASK` without its padding on the left.
SOURCE_MASK = np.ones((3, oracle.LENGTH), np.int32)
SOURCE_MASK[0, 8:] = 0
SOURCE_MASK[2, 5:] = 0
TARGET_MASK = np.ones((3, TARGET), np.int32)
TARGET_MASK[1, 6:] = 0


def batch(vocab_size) -> dict:
  """Random tokens; some rows of each side are padded."""
  random = np.random.default_rng(0)
  made = {}
  for side, mask in (("", SOURCE_MASK), ("decoder_", TARGET_MASK)):
    tokens = random.integers(oracle.PAD + 1, vocab_size, mask.shape)
    made[f"{side}inputs"] = np.where(mask, tokens, oracle.PAD).astype(np.int32)
    made[f"{side}segments"] = mask
  return made


def theirs(model, batch, **more):
  """What a model of transformers returns."""
  as_tensor = lambda key: torch.tensor(batch[key]).long()
  with torch.no_grad():
    return model(
      input_ids=as_tensor("inputs"),
      attention_mask=as_tensor("segments"),
      decoder_input_ids=as_tensor("decoder_inputs"),
      decoder_attention_mask=as_tensor("decoder_segments"),
      **more,
    )


def check_import(model, folder, vocab_size, heads) -> float:
  """A model of transformers through its file and our import, in float64.

  Returns:
    The largest difference, at most 1e-9.
  """
  found = oracle.imported(model, folder, dtype=np.float64)
  assert set(found.model["heads"]) == set(heads)
  assert found.ignored == ()
  held = batch(vocab_size)
  expected = theirs(model, held, output_hidden_states=True)
  mine = oracle.ours(found, held)
  pairs = {"encoder_hidden": (expected.encoder_last_hidden_state, SOURCE_MASK)}
  last = expected.decoder_hidden_states[-1]
  pairs["hidden"] = (last, TARGET_MASK)
  if heads:
    pairs["seq2seq_lm"] = (expected.logits, TARGET_MASK)
  for name, (value, mask) in pairs.items():
    oracle.close(mine[name], value, 1e-9, mask)
  return max(
    float(np.abs(mine[n] - np.asarray(v))[m > 0].max())
    for n, (v, m) in pairs.items()
  )


def check_export(spec, folder, architecture):
  """Random float64 parameters through our export, and back.

  Returns:
    The parameters and what the export says of itself.
  """
  params = oracle.random_params(spec)
  facts = interop.export_folder(folder, model=spec, params=params)
  assert facts["architecture"] == architecture
  assert facts["why_own_code"] == ""
  assert facts["differences"]["jaxlm"]["hidden"] == 0.0
  assert set(facts["differences"]["transformers"]) == {
    "hidden",
    *spec["heads"],
  }
  assert facts["largest_difference"] <= 1e-9, facts["differences"]
  return params, facts
