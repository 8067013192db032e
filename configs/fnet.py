"""FNet (Lee-Thorp et al., arXiv:2105.03824): Fourier transforms for attention.

  jaxlm train --config=fnet:base --config.data.files='corpus/*.txt' \
      --workdir=runs/fnet

Attention gives way to the real part of a two-dimensional Fourier transform,
which has no parameters and cannot be masked: rows are running text, full and of
one length, since the transform of a longer row is another one. Dropout is on
embeddings and feed-forwards alone. Rates and rows are our choice. `tiny` is for
tests.
"""

from configs import common

# layers, width, feed-forward, vocabulary, length, rows
SIZES = {
  "tiny": (2, 64, 128, 512, 64, 32),
  "base": (12, 768, 3072, 32_000, 512, 256),
  "large": (24, 1024, 4096, 32_000, 512, 256),
}


def get_config(variant: str = "base"):
  """FNet at a published size, or `tiny`."""
  sizes = common.size(SIZES, variant)
  depth, width, hidden, vocab, length, rows = sizes
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = rows
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="blocks", unit="tokens"),
    corruption=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(kind="unigram", vocab_size=vocab)
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.1,
    # A projection behind the norm, though it changes no width.
    embeddings=dict(kind="factorized", types=4, table_width=width),
    positions=dict(kind="learned", max_length=512),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm", dropout=0.0, feedforward_dropout=0.1),
        mixer=dict(kind="fourier"),
        feedforward=dict(kind="mlp", hidden=hidden, activation="gelu_tanh"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm", activation="gelu_tanh")),
    initializer=dict(std=0.02, truncated=True),
  )
  config.optimizer = dict(
    kind="adamw",
    learning_rate=2e-3 if variant == "tiny" else 1e-4,
    b1=0.9,
    b2=0.999,
    eps=1e-6,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=0.01)
  return config
