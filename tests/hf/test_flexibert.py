"""FlexiBERT's plain design is BERT of transformers without positions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from jaxlm import paths  # noqa: E402
from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf
VOCAB, LENGTH = 61, 20


def test_scaled_dot_products_with_a_table_of_zeros(tmp_path):
  """Relative keys of 0 and no absolute positions, in float64."""
  config = transformers.BertConfig(
    vocab_size=VOCAB,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=LENGTH,
    pad_token_id=oracle.PAD,
  )
  model = oracle.draw(transformers.BertForMaskedLM(config))
  with torch.no_grad():
    model.bert.embeddings.position_embeddings.weight.zero_()
  found = oracle.imported(model, tmp_path)
  found.model["positions"] = dict(kind="relative_key", max_length=LENGTH)
  params = {
    path: leaf
    for path, leaf in paths.flatten(found.params).items()
    if path != "positions/table"
  }
  for path in [path for path in params if path.endswith("query/kernel")]:
    layer = path.removesuffix("query/kernel")
    turns = params[path].shape[:-2]  # of a scanned stack
    table = np.zeros((*turns, 2 * LENGTH - 1, 8), params[path].dtype)
    params[f"{layer}positions/table"] = table
  changed = found._replace(params=paths.unflatten(params))
  batch = oracle.batch(VOCAB)
  theirs, mine = oracle.theirs(model, batch), oracle.ours(changed, batch)
  oracle.close(mine["masked_lm"], theirs.logits, 1e-9, batch["segments"])
