"""GaLore (Zhao et al., arXiv:2403.03507): LLaMA-like models in less memory.

  jaxlm train --config=galore:60m --config.data.files='corpus/*.txt' \
      --workdir=runs/galore

Sizes and settings are those of the released scripts: the rate is high because
the projected update is scaled by 0.25. Claim: up to 65.5% less optimizer
memory at nearly the perplexity. `tiny` is for tests.
"""

from configs import common

# layers, width, heads, feed-forward, vocabulary, rank, steps
SIZES = {
  "tiny": (2, 64, 4, 176, 512, 16, 300),
  "60m": (8, 512, 8, 1376, 32_000, 128, 10_000),
  "130m": (12, 768, 12, 2048, 32_000, 256, 20_000),
  "350m": (24, 1024, 16, 2736, 32_000, 256, 60_000),
  "1b": (24, 2048, 32, 5461, 32_000, 512, 100_000),
}


def get_config(variant: str = "60m"):
  """A LLaMA-like decoder at a size of the paper, or `tiny`."""
  depth, width, heads, hidden, vocab, rank, steps = common.size(SIZES, variant)
  config = common.base()
  config.steps = steps
  config.batch_size = 32 if variant == "tiny" else 512
  config.data = dict(
    kind="packed",
    files="",
    length=64 if variant == "tiny" else 256,
    arrangement=dict(kind="documents"),
    corruption=dict(kind="causal"),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab)
  config.model = dict(
    kind="decoder",
    width=width,
    embeddings=dict(kind="token"),
    positions=dict(kind="rotary"),
    norm=dict(kind="rms_norm", epsilon=1e-6),
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(kind="attention", heads=heads, causal=True, use_bias=False),
        feedforward=dict(kind="gated", hidden=hidden, activation="silu"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(causal_lm=dict(kind="causal_lm", tied=False)),
    initializer=dict(std=0.02),
  )
  config.objective = dict(kind="causal_lm")
  config.optimizer = dict(
    kind="galore",
    learning_rate=0.01,
    rank=rank,
    refresh=200,
    scale=0.25,
    weight_decay=0.0,
  )
  config.schedule = dict(kind="cosine", warmup=0.1, final=0.1)
  return config
