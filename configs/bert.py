"""BERT (Devlin et al., arXiv:1810.04805): masked LM and next sentence.

  jaxlm train --config=bert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/bert

Text needs one sentence a line and a blank line between documents. Published:
1M steps of 256 rows on Wikipedia and BooksCorpus, the last tenth at length
512 (`--config.data.length=512 --config.init_from=runs/bert`), GLUE 80.5
(large); 4 days on 16 (base) or 64 (large) TPU chips. `tiny` is for tests.
"""

from configs import common

# layers, width, heads, feed-forward, vocabulary, length
SIZES = {
  "tiny": (2, 32, 2, 64, 512, 64),
  "google_tiny": (2, 128, 2, 512, 30_522, 128),
  "mini": (4, 256, 4, 1024, 30_522, 128),
  "small": (4, 512, 8, 2048, 30_522, 128),
  "medium": (8, 512, 8, 2048, 30_522, 128),
  "base": (12, 768, 12, 3072, 30_522, 128),
  "large": (24, 1024, 16, 4096, 30_522, 128),
}


def get_config(variant: str = "base"):
  """BERT at a published size, or `tiny`."""
  config = of_size(common.size(SIZES, variant))
  return common.small(config) if variant == "tiny" else config


def of_size(size: tuple[int, ...]):
  """BERT of any size, given as in `SIZES`."""
  depth, width, heads, hidden, vocab, length = size
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = 256
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="pairs"),
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(
    kind="wordpiece", vocab_size=vocab, lowercase=True, strip_accents=True
  )
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token", types=2),
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
    heads=dict(
      masked_lm=dict(kind="masked_lm"),
      next_sentence=dict(kind="classify", classes=2, dropout=0.0),
    ),
    initializer=dict(std=0.02, truncated=True),
  )
  config.objective = dict(kind="masked_lm_next_sentence")
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
  return config
