"""ModernBERT (Warner et al., arXiv:2412.13663): the newest encoder anchor.

  jaxlm train --config=modernbert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/modern

Pre-norm without biases, GEGLU, rotary positions, every third layer global and
the others in a window of 128 tokens, StableAdamW, a trapezoid schedule.
Published: 2 trillion tokens, length 1024 and then 8192. This is the first
phase (length 1024, theta 10,000 everywhere); for the second set
`--config.data.length=8192` and the global theta to 160,000. `tiny` is for
tests.
"""

from configs import common

# layers, width, heads, feed-forward, vocabulary, peak rate, length
SIZES = {
  "tiny": (4, 32, 2, 48, 512, 1e-3, 64),
  "base": (22, 768, 12, 1152, 50_368, 8e-4, 1024),
  "large": (28, 1024, 16, 2624, 50_368, 5e-4, 1024),
}


def _layer(heads, hidden, window, **block):
  return dict(
    block=dict(kind="pre_norm", feedforward_dropout=0.0, **block),
    mixer=dict(
      kind="attention",
      heads=heads,
      window=window,
      use_bias=False,
      positions=dict(kind="rotary", theta=10_000.0),
    ),
    feedforward=dict(kind="gated", hidden=hidden, activation="gelu"),
  )


def get_config(variant: str = "base"):
  """ModernBERT at a published size, or `tiny`."""
  depth, width, heads, hidden, vocab, rate, length = common.size(SIZES, variant)
  config = common.base()
  config.steps = 500_000
  config.batch_size = 4608
  config.microbatches = 9
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    corruption=dict(kind="masking", rate=0.3, mask=0.8, random=0.1, keep=0.1),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab)
  config.model = dict(
    kind="encoder",
    width=width,
    dropout=0.0,
    embeddings=dict(kind="token", pad_to_multiple=64),
    positions=dict(kind="none"),
    norm=dict(kind="layer_norm", epsilon=1e-5, use_bias=False),
    input_norm=True,
    final_norm=True,
    layers=dict(
      first=_layer(heads, hidden, 0, dropout=0.1, skip_mixer_norm=True),
      wide=_layer(heads, hidden, 0, dropout=0.1),
      local=_layer(heads, hidden, 128, dropout=0.1),
    ),
    order=("first",) + ("local", "local", "wide") * ((depth - 1) // 3),
    stack=dict(kind="scan", remat=False),
    heads=dict(masked_lm=dict(kind="masked_lm", use_bias=False)),
    initializer=dict(std=0.02, truncated=True, scaled_output=True),
  )
  config.optimizer = dict(
    kind="stable_adamw",
    learning_rate=rate,
    b1=0.9,
    b2=0.98,
    eps=1e-6,
    weight_decay=1e-5,
  )
  config.schedule = dict(kind="wsd", warmup=0.002, decay=0.1)
  return common.small(config) if variant == "tiny" else config
