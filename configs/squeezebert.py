"""SqueezeBERT (Iandola et al., arXiv:2006.11316): BERT of grouped maps.

  jaxlm train --config=squeezebert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/squeezebert

BERT-base whose queries, keys, values and feed-forwards are grouped
convolutions of one tap, in 4 groups: 51 million parameters in place of 110.
Pre-trained with LAMB on large batches; its rates here are our choice. `tiny` is
for tests.
"""

from configs import common

# layers, width, heads, groups, feed-forward, vocabulary, length, rows
SIZES = {
  "tiny": (2, 64, 4, 2, 128, 512, 64, 32),
  "base": (12, 768, 12, 4, 3072, 30_522, 128, 8192),
}


def get_config(variant: str = "base"):
  """SqueezeBERT at its published size, or `tiny`."""
  sizes = common.size(SIZES, variant)
  depth, width, heads, groups, hidden, vocab, length, rows = sizes
  config = common.base()
  config.steps = 125_000
  config.batch_size = rows
  config.microbatches = max(rows // 256, 1)
  config.data = dict(
    kind="packed",
    files="",
    length=length,
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
        mixer=dict(
          kind="grouped_attention", heads=heads, groups=groups, dropout=0.1
        ),
        feedforward=dict(
          kind="grouped_mlp", hidden=hidden, groups=groups, activation="gelu"
        ),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02, truncated=True),
  )
  config.optimizer = dict(
    kind="lamb",
    learning_rate=1.5e-2 if variant == "tiny" else 1.76e-3,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=0.1)
  return config
