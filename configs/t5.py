"""T5 (Raffel et al., arXiv:1910.10683): spans of text as text.

  jaxlm train --config=t5:small --config.data.files='corpus/*.txt' \
      --workdir=runs/t5

Published: 524,288 steps of 128 rows (2^35 tokens of C4), Adafactor at
1 / sqrt(max(step, 10,000)); v1.1 drops the dropout, gates the feed-forward
(GEGLU) and unties the output. Text is cut into running rows that leave room
for what span corruption takes out. `tiny` is for tests.
"""

from configs import common

# encoder and decoder layers, width, heads, head width (0: width / heads),
# feed-forward, vocabulary, length, v1.1
SIZES = {
  "tiny": (2, 64, 4, 0, 128, 512, 64, False),
  "tiny_v1_1": (2, 64, 4, 8, 128, 512, 64, True),
  "small": (6, 512, 8, 0, 2048, 32_128, 512, False),
  "base": (12, 768, 12, 0, 3072, 32_128, 512, False),
  "v1_1_small": (8, 512, 6, 64, 1024, 32_128, 512, True),
  "v1_1_base": (12, 768, 12, 0, 2048, 32_128, 512, True),
}


def get_config(variant: str = "base"):
  """T5 v1.0 or v1.1 at a published size, or `tiny`."""
  depth, width, heads, dim, hidden, vocab, length, new = common.size(
    SIZES, variant
  )
  dropout = 0.0 if new else 0.1
  attention = dict(
    heads=heads, head_dim=dim, use_bias=False, scale=1.0, dropout=dropout
  )
  config = common.base()
  config.steps = 524_288
  config.batch_size = 32 if length < 512 else 128
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="stream"),
    corruption=dict(kind="span_corruption"),
  )
  config.tokenizer = dict(
    kind="unigram",
    # The published table has rows that no token uses.
    vocab_size=32_100 if vocab == 32_128 else vocab,
    template="t5",
    sentinels=16 if vocab == 512 else 100,
  )
  shared = dict(
    width=width,
    dropout=dropout,
    norm=dict(kind="rms_norm", epsilon=1e-6),
    initializer=dict(std=1.0, fan_in=True, table_std=1.0),
  )
  config.model = dict(
    kind="encoder_decoder",
    **shared,
    vocab_size=vocab,
    embeddings=dict(kind="token"),
    output_dropout=dropout,
    towers=dict(
      encoder=_tower("encoder", shared, depth, attention, hidden, new),
      decoder=_tower("decoder", shared, depth, attention, hidden, new),
    ),
    heads=dict(
      seq2seq_lm=dict(kind="seq2seq_lm", tied=not new, scaled=not new)
    ),
  )
  config.objective = dict(kind="seq2seq")
  config.optimizer = dict(
    kind="adamw",
    learning_rate=1e-3 if length == 512 else 1e-2,
    b1=0.9,
    b2=0.999,
    weight_decay=0.0,
  )
  config.schedule = dict(kind="linear", warmup=0.02)
  return config


def _tower(kind, shared, depth, attention, hidden, new):
  decodes = kind == "decoder"
  feedforward = (
    dict(kind="gated", activation="gelu_tanh")
    if new
    else dict(kind="mlp", activation="relu", use_bias=False)
  )
  layer = dict(
    block=dict(kind="pre_norm_cross" if decodes else "pre_norm"),
    mixer=dict(kind="attention", causal=decodes, **attention),
    feedforward=dict(hidden=hidden, dropout=shared["dropout"], **feedforward),
  )
  if decodes:
    layer["cross"] = dict(kind="cross_attention", **attention)
  return dict(
    kind=kind,
    **shared,
    positions=dict(kind="relative_buckets", bidirectional=not decodes),
    final_norm=True,
    layers=dict(layer=layer),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
  )
