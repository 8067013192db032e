"""ELECTRA (Clark et al., arXiv:2003.10555): a generator and a discriminator.

  jaxlm train --config=electra:small --config.data.files='corpus/*.txt' \
      --workdir=runs/electra

The workdir starts a fine-tuning (`--config.init_from=runs/electra`) with its
discriminator, which is also what is exported. Published: 1M (small), 766k
(base) and 400k (large) steps; base reaches GLUE 85.1 where BERT base has
82.2. The released code draws masked positions with replacement, so some twice;
here each is drawn once. `tiny` is for tests.
"""

from configs import common

# layers, width, heads, width of the tables, vocabulary, length,
# generator's width and heads, masked share, batch, learning rate, steps
SIZES = {
  "tiny": (2, 64, 2, 32, 1024, 64, 32, 2, 0.15, 32, 1e-3, 300),
  "small": (12, 256, 4, 128, 30_522, 128, 256, 4, 0.15, 128, 5e-4, 1_000_000),
  "base": (12, 768, 12, 768, 30_522, 512, 256, 4, 0.15, 256, 2e-4, 766_000),
  "large": (24, 1024, 16, 1024, 30_522, 512, 256, 4, 0.25, 2048, 2e-4, 400_000),
}
_HEADS = {
  "generator": dict(masked_lm=dict(kind="masked_lm")),
  "discriminator": dict(replaced_token=dict(kind="replaced_token")),
}


def get_config(variant: str = "base"):
  """ELECTRA at a published size, or `tiny`."""
  (
    depth,
    width,
    heads,
    table_width,
    vocab,
    length,
    generator_width,
    generator_heads,
    rate,
    batch_size,
    learning_rate,
    steps,
  ) = common.size(SIZES, variant)
  config = common.base()
  config.steps = steps
  config.batch_size = batch_size
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    corruption=dict(
      kind="masking", rate=rate, mask=0.85, random=0.0, keep=0.15, count="total"
    ),
  )
  config.tokenizer = dict(
    kind="wordpiece", vocab_size=vocab, lowercase=True, strip_accents=True
  )
  sizes = dict(depth=depth, table_width=table_width)
  if variant == "tiny":
    sizes |= dict(dropout=0.0, std=0.08)
  config.model = dict(
    kind="two_tower",
    sharing="shared",
    towers=dict(
      generator=tower("generator", generator_width, generator_heads, **sizes),
      discriminator=tower("discriminator", width, heads, **sizes),
    ),
  )
  config.objective = dict(kind="replaced_token_detection", weight=50.0)
  config.optimizer = dict(
    kind="adamw",
    learning_rate=learning_rate,
    eps=1e-6,
    weight_decay=0.01,
    bias_correction=False,
  )
  config.schedule = dict(
    kind="linear", warmup=0.1 if variant == "tiny" else 10_000
  )
  return config


def tower(name, width, heads, *, depth, table_width, dropout=0.1, std=0.02):
  """The spec of a tower: BERT with tables of a width of their own."""
  embeddings = dict(kind="factorized", types=2, table_width=table_width)
  if table_width == width:
    embeddings = dict(kind="token", types=2)
  return dict(
    kind="encoder",
    width=width,
    dropout=dropout,
    embeddings=embeddings,
    positions=dict(kind="learned", max_length=512),
    norm=dict(kind="layer_norm", epsilon=1e-12),
    input_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="post_norm"),
        mixer=dict(kind="attention", heads=heads, dropout=dropout),
        feedforward=dict(kind="mlp", hidden=4 * width, activation="gelu"),
      )
    ),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan", remat=False),
    heads=_HEADS[name],
    initializer=dict(std=std, truncated=True),
  )
