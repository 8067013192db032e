"""GPT-2 (Radford et al., 2019): a causal language model.

  jaxlm train --config=gpt2:small --config.data.files='corpus/*.txt' \
      --workdir=runs/gpt2
  jaxlm generate --checkpoint=runs/gpt2 --prompt='Once upon a time'

Training hyperparameters of the original are unpublished; these are those of
community BabyLM baselines (length 512 there). `tiny` is for tests.
"""

from configs import common

# layers, width, heads, vocabulary, length
SIZES = {
  "tiny": (2, 32, 2, 512, 64),
  "small": (12, 768, 12, 50_257, 1024),
  "medium": (24, 1024, 16, 50_257, 1024),
  "large": (36, 1280, 20, 50_257, 1024),
  "xl": (48, 1600, 25, 50_257, 1024),
}


def get_config(variant: str = "small"):
  """GPT-2 at a published size, or `tiny`."""
  depth, width, heads, vocab, length = common.size(SIZES, variant)
  config = common.base()
  config.steps = 100_000
  config.batch_size = 64
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="chunks", cross_document=False),
    corruption=dict(kind="causal"),
  )
  config.tokenizer = dict(kind="byte_bpe", vocab_size=vocab, template="gpt2")
  config.model = dict(
    kind="decoder",
    width=width,
    dropout=0.1,
    embeddings=dict(kind="token"),
    positions=dict(kind="learned", max_length=1024),
    norm=dict(kind="layer_norm", epsilon=1e-5),
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(kind="attention", heads=heads, causal=True, dropout=0.1),
        feedforward=dict(kind="mlp", hidden=4 * width, activation="gelu_tanh"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=dict(causal_lm=dict(kind="causal_lm")),
    initializer=dict(std=0.02, scaled_output=True),
  )
  config.objective = dict(kind="causal_lm")
  config.optimizer = dict(
    kind="adamw",
    learning_rate=5e-4,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.01,
  )
  config.schedule = dict(kind="linear", warmup=0.01)
  return common.small(config) if variant == "tiny" else config
