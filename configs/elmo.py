"""ELMo (Peters et al., arXiv:1802.05365): two LSTMs that do not see each other.

  jaxlm train --config=elmo:base --config.data.files='corpus/*.txt' \
      --workdir=runs/elmo

A forward and a backward language model over the same rows: two layers each of
4,096 cells projected to 512 states, the second with a residual. `base` reads
characters, as published; `elmo_c` vectors of n-grams, with norms on input and
states (Li et al., TACL 2019; its continuous outputs are an objective of their
own). Published: 10 epochs of the One Billion Word benchmark over a vocabulary
of 793,471 words with a sampled softmax; here tokens with the whole softmax.
`tiny` is for tests.
"""

from configs import common

_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
_CHARACTERS = dict(kind="character_cnn", characters=50, filters=_FILTERS)
_VECTORS = dict(
  kind="subword_vectors", vector_width=300, norm=dict(kind="layer_norm")
)
_TINY = dict(
  kind="character_cnn",
  characters=12,
  character_width=8,
  filters=((1, 16), (2, 16), (3, 32)),
  highways=1,
)

# embeddings, norm on states, width, cells, vocabulary, length, rows
SIZES = {
  "tiny": (_TINY, None, 64, 128, 512, 64, 16),
  "base": (_CHARACTERS, None, 512, 4096, 32_768, 128, 128),
  "elmo_c": (_VECTORS, dict(kind="layer_norm"), 512, 4096, 32_768, 128, 128),
}


def get_config(variant: str = "base"):
  """ELMo at its published size, ELMo-C's body, or `tiny`."""
  sizes = common.size(SIZES, variant)
  embeddings, norm, width, cells, vocab, length, rows = sizes
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = rows
  config.clip_norm = 1.0
  config.data = dict(
    kind="packed", files="", length=length, corruption=dict(kind="causal")
  )
  config.tokenizer = dict(kind="wordpiece", vocab_size=vocab)
  tower = direction(width, cells, norm)
  config.model = dict(
    kind="bidirectional_lm",
    width=width,
    embeddings=embeddings,
    towers=dict(forward=tower, backward=tower),
    heads=dict(bidirectional_lm=dict(kind="bidirectional_lm", tied=False)),
    initializer=_START,
  )
  config.objective = dict(kind="bidirectional_lm")
  config.optimizer = dict(kind="adamw", learning_rate=1e-4, weight_decay=0.0)
  config.schedule = dict(kind="linear", warmup=0.01)
  if variant == "tiny":
    config.steps = 300
    config.optimizer.learning_rate = 3e-3
  return config


# Kernels as wide as the root of their inputs asks for.
_START = dict(std=1.0, fan_in=True, table_std=1.0)


def direction(width: int, cells: int, norm) -> dict:
  """The layers of one direction."""
  mixer = dict(kind="lstm", cells=cells, clip=3.0, norm=norm, dropout=0.1)
  return dict(
    kind="encoder",
    width=width,
    positions=dict(kind="none"),
    layers=dict(
      first=dict(block=dict(kind="mixer_only", residual=False), mixer=mixer),
      second=dict(block=dict(kind="mixer_only"), mixer=mixer),
    ),
    order=("first", "second"),
    stack=dict(kind="sequential"),
    initializer=_START,
  )
