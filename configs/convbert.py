"""ConvBERT (Jiang et al., arXiv:2008.02496): half of attention is convolution.

  jaxlm train --config=convbert:small --config.data.files='corpus/*.txt' \
      --workdir=runs/convbert

Published: 1M steps of 128 rows (base: 256) of 128 tokens of OpenWebText with
ELECTRA's objective, base at GLUE 86.4; here with masked LM, of which 85% of
the chosen tokens become [MASK] and the others stay. Taps stop at the borders
of documents, where the released model lets padding in; `mixer.parity=True`
computes as that does. `tiny` is for tests.
"""

from configs import common

# layers, width, heads of each half, feed-forward, table width, groups,
# vocabulary, learning rate, rows
SIZES = {
  "tiny": (2, 48, 2, 96, 24, 2, 512, 2e-3, 32),
  "small": (12, 256, 2, 1024, 128, 1, 30_522, 3e-4, 128),
  "medium_small": (12, 384, 4, 1536, 128, 2, 30_522, 5e-4, 128),
  "base": (12, 768, 6, 3072, 768, 1, 30_522, 2e-4, 256),
}


def get_config(variant: str = "base"):
  """ConvBERT at a published size, or `tiny`."""
  sizes = common.size(SIZES, variant)
  depth, width, heads, hidden, table, groups, vocab, rate, rows = sizes
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = rows
  config.data = dict(
    kind="packed",
    files="",
    length=64 if variant == "tiny" else 128,
    corruption=dict(
      kind="masking", rate=0.15, mask=0.85, random=0.0, keep=0.15
    ),
  )
  config.tokenizer = dict(
    kind="wordpiece", vocab_size=vocab, lowercase=True, strip_accents=True
  )
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    embeddings=embeddings(width, table),
    positions=dict(kind="learned", max_length=512),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(
          kind="mixed_attention", heads=heads, kernel_size=9, dropout=0.1
        ),
        feedforward=feedforward(hidden, groups),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm")),
    initializer=dict(std=0.02, truncated=True),
  )
  config.optimizer = dict(
    kind="adamw",
    learning_rate=rate,
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    weight_decay=0.01,
    bias_correction=False,
  )
  config.schedule = dict(kind="linear", warmup=0.01)
  return config


def embeddings(width, table):
  """A table of the model's width, or a narrower one and a projection."""
  if table == width:
    return dict(kind="token", types=2)
  return dict(kind="factorized", types=2, table_width=table)


def feedforward(hidden, groups):
  """A plain feed-forward, or a grouped one."""
  if groups == 1:
    return dict(kind="mlp", hidden=hidden, activation="gelu")
  return dict(
    kind="grouped_mlp", hidden=hidden, groups=groups, activation="gelu"
  )
