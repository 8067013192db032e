"""EELBERT (Cohn et al., arXiv:2310.20144): BERT without a token table.

  jaxlm train --config=eelbert:uno --config.data.files='corpus/*.txt' \
      --workdir=runs/uno

Rows of tokens are hashed from their spelling, so a fine-tuned `uno` holds 1.1
MB of float32 parameters. The paper trains like BERT on Wikipedia and
BooksCorpus with the masked-LM loss; the output matrix is dropped after that.
`paper_tiny` is the paper's tiny; `tiny` is for tests.
"""

from configs import bert, common

# layers, width, heads, feed-forward, vocabulary, length
SIZES = {
  "tiny": (2, 64, 2, 128, 512, 64),
  "uno": (2, 128, 2, 128, 30_522, 128),
  "paper_tiny": (2, 128, 2, 512, 30_522, 128),
  "mini": (4, 256, 4, 1024, 30_522, 128),
  "base": (12, 768, 12, 3072, 30_522, 128),
}


def get_config(variant: str = "base"):
  """EELBERT at a published size, or `tiny`."""
  size = common.size(SIZES, variant)
  config = bert.of_size(size)
  config.data.arrangement = dict(kind="documents")
  config.model.embeddings = dict(kind="ngram_hash", types=2)
  config.model.heads = dict(masked_lm=dict(kind="masked_lm", untied=size[1]))
  config.objective = dict(kind="masked_lm")
  if variant == "tiny":
    config.steps, config.batch_size = 300, 16
    config.optimizer = dict(kind="adamw", learning_rate=3e-3, b2=0.98)
    config.schedule.warmup = 0.1
    config.model.initializer.std = 0.1
    config.model.dropout = config.model.layers.layer.mixer.dropout = 0.0
  return config
