"""ALBERT (Lan et al., arXiv:1909.11942): one layer, applied N times.

  jaxlm train --config=albert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/albert

Text needs one sentence a line and a blank line between documents: beside
masked LM the model tells whether two stretches of text are in their order.
Published: 125k steps of 4096 rows of 512 tokens of Wikipedia and BooksCorpus
with LAMB and masked n-grams; here with masked tokens. No dropout, as in version
2. `tiny` is for tests.
"""

from configs import common

# layers, width, heads, feed-forward, table width, vocabulary, length, rows
SIZES = {
  "tiny": (2, 64, 2, 128, 32, 512, 64, 32),
  "base": (12, 768, 12, 3072, 128, 30_000, 512, 4096),
  "large": (24, 1024, 16, 4096, 128, 30_000, 512, 4096),
  "xlarge": (24, 2048, 16, 8192, 128, 30_000, 512, 4096),
  "xxlarge": (12, 4096, 64, 16_384, 128, 30_000, 512, 4096),
}


def get_config(variant: str = "base"):
  """ALBERT at a published size, or `tiny`."""
  sizes = common.size(SIZES, variant)
  depth, width, heads, hidden, table, vocab, length, rows = sizes
  config = common.base()
  config.steps = 125_000
  config.batch_size = rows
  config.microbatches = max(rows // 256, 1)
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="pairs", relations=("next", "previous")),
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(
    kind="unigram", vocab_size=vocab, lowercase=True, strip_accents=True
  )
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.0,
    embeddings=dict(kind="factorized", types=2, table_width=table),
    positions=dict(kind="learned", max_length=512),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(kind="attention", heads=heads),
        feedforward=dict(kind="mlp", hidden=hidden, activation="gelu_tanh"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="shared", remat=False),
    heads=dict(
      masked_lm=dict(kind="masked_lm", activation="gelu_tanh"),
      next_sentence=dict(kind="classify", classes=2, dropout=0.0),
    ),
    initializer=dict(std=0.02, truncated=True),
  )
  config.objective = dict(kind="masked_lm_next_sentence")
  config.optimizer = dict(
    kind="lamb",
    learning_rate=1.5e-2 if variant == "tiny" else 1.76e-3,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=3125 / 125_000)
  return config
