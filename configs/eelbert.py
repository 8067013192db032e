"""EELBERT (Cohn et al., arXiv:2310.20144): BERT without a token table.

  jaxlm train --config=eelbert:uno --config.data.files='corpus/*.txt' \
      --workdir=runs/uno

Rows of tokens are hashed from their spelling, so a fine-tuned `uno` holds 1.1
MB of float32 parameters. The paper trains like BERT on Wikipedia and
BooksCorpus with the masked-LM loss; the output matrix is dropped after that.
`paper_tiny` is the paper's tiny; `tiny` is for tests.
"""

from configs import common

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
  depth, width, heads, hidden, vocab, length = common.size(SIZES, variant)
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = 256
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="documents"),
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(
    kind="wordpiece", vocab_size=vocab, lowercase=True, strip_accents=True
  )
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="ngram_hash", types=2),
    positions=dict(kind="learned", max_length=512),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(kind="attention", heads=heads, dropout=0.1),
        feedforward=dict(kind="mlp", hidden=hidden, activation="gelu"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm", untied=width)),
    initializer=dict(std=0.02, truncated=True),
  )
  config.objective = dict(kind="masked_lm")
  config.optimizer = dict(
    kind="adamw",
    learning_rate=1e-4,
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    weight_decay=0.01,
    bias_correction=False,
  )
  config.schedule = dict(kind="linear", warmup=0.01)
  if variant == "tiny":
    config.steps, config.batch_size = 300, 16
    config.optimizer = dict(kind="adamw", learning_rate=3e-3, b2=0.98)
    config.schedule.warmup = 0.1
    config.model.initializer.std = 0.1
    config.model.dropout = config.model.layers.layer.mixer.dropout = 0.0
  return config
