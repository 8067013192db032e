"""ELMo-C (Li et al., TACL 2019): predict the next word's vector, not the word.

  jaxlm train --config=elmo_c:base --config.data.files='corpus/*.txt' \
      --config.data.vectors.path=cc.en.300.bin --workdir=runs/elmo_c
  jaxlm evaluate --checkpoint=runs/elmo_c --neighbours

Outputs that cost the same however many words there are, on ELMo's two LSTMs
(`base`) and on a causal transformer (`transformer`), with their rivals on the
same encoders: `sampled` and `adaptive` softmaxes over as many words. (The
rival of pieces of words is elmo:elmo_c, or gpt2.) Vectors of words come from
fastText's files, or are trained on the corpus by gensim:
--config.data.vectors="dict(kind='fasttext')" needs the extra jaxlm[vectors].

Published, on the One Billion Word benchmark: 2.5 days on 4 GPUs where ELMo
took 14 on 3, 76M trained parameters where it has 499M, with SNLI 88.8, coref
72.9, SST-5 53.80, NER 92.24 and SRL 82.4 (ELMo 88.5, 72.9, 52.96, 92.51,
83.4). There is no perplexity: `--neighbours` tells how often the right word is
the nearest. Of its training, the schedule is ours, and states begin anew in
each row. `tiny...` are for tests, with vectors that are drawn from n-grams.
"""

import dataclasses

from configs import common, elmo


@dataclasses.dataclass(frozen=True)
class Size:
  """An encoder and the output on it."""

  encoder: str = "lstm"
  output: str = "continuous"
  width: int = 512
  inner: int = 4096
  depth: int = 12
  heads: int = 8
  vocab: int = 800_000
  length: int = 128
  rows: int = 128
  samples: int = 8192
  cutoffs: tuple[int, ...] = (4_000, 40_000, 200_000)


_TINY = dict(width=64, inner=128, depth=2, heads=2, vocab=512, length=64)
_TINY |= dict(rows=16, samples=64, cutoffs=(100, 300))
_NARROW = 32  # vectors of tiny ones; others' data tell their width

SIZES = {
  "tiny": Size(**_TINY),
  "tiny_transformer": Size("transformer", **_TINY),
  "tiny_sampled": Size("lstm", "sampled", **_TINY),
  "tiny_adaptive": Size("lstm", "adaptive", **_TINY),
  "base": Size(),
  "sampled": Size("lstm", "sampled"),
  "adaptive": Size("lstm", "adaptive"),
  "transformer": Size("transformer", inner=2048),
  "transformer_sampled": Size("transformer", "sampled", inner=2048),
  "transformer_adaptive": Size("transformer", "adaptive", inner=2048),
}


def get_config(variant: str = "base"):
  """An encoder with an output, at a size near the published one, or tiny."""
  size = common.size(SIZES, variant)
  config = common.base()
  config.steps = 1_000_000
  config.batch_size = size.rows
  config.clip_norm = 1.0
  config.data = dict(
    kind="word_vectors",
    files="",
    length=size.length,
    vectors=dict(kind="file", path="cc.en.300.bin"),
  )
  config.tokenizer = dict(kind="word", vocab_size=size.vocab)
  config.model = ENCODERS[size.encoder](size)
  OUTPUTS[size.output](config, size)
  config.optimizer = dict(kind="adamw", learning_rate=1e-4, weight_decay=0.0)
  config.schedule = dict(kind="linear", warmup=0.01)
  if variant.startswith("tiny"):
    config.steps = 300
    config.data.vectors = dict(kind="hashed", width=_NARROW)
    config.model.embeddings.vector_width = _NARROW
    if size.output == "continuous":
      config.model.heads.continuous.vector_width = _NARROW
    return common.small(config, rate=3e-3)
  return config


def lstms(size: Size) -> dict:
  """ELMo's forward and backward LSTMs, with norms on states (ELMo-C)."""
  tower = elmo.direction(size.width, size.inner, dict(kind="layer_norm"))
  return dict(
    kind="bidirectional_lm",
    width=size.width,
    embeddings=_INPUTS,
    towers=dict(forward=tower, backward=tower),
    initializer=_START,
  )


def transformer(size: Size) -> dict:
  """Pre-norm layers that look back, as GPT-2's."""
  mixer = dict(kind="attention", heads=size.heads, causal=True)
  return dict(
    kind="decoder",
    width=size.width,
    embeddings=_INPUTS,
    positions=dict(kind="none"),
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(positions=dict(kind="rotary"), **mixer),
        feedforward=dict(kind="mlp", hidden=size.inner),
      )
    ),
    order=("layer",),
    depth=size.depth,
    stack=dict(kind="scan", remat=False),
    dropout=0.1,
    initializer=_START,
  )


def continuous(config, size: Size) -> None:
  """The vector of each word to predict, hit by direction."""
  del size
  ways = _ways(config)
  config.model.heads = dict(continuous=dict(kind="continuous", directions=ways))
  config.objective = dict(kind="continuous_cosine", directions=ways)


def sampled(config, size: Size) -> None:
  """The softmax over a sample of the words."""
  _over_words(config, kind="sampled_softmax", samples=size.samples)


def adaptive(config, size: Size) -> None:
  """Frequent words first, and rare ones in narrower tails."""
  _over_words(config, kind="adaptive_softmax", cutoffs=size.cutoffs)


def _over_words(config, **head) -> None:
  ways = _ways(config)
  task = "causal_lm" if ways == 1 else "bidirectional_lm"
  config.model.heads = {task: dict(directions=ways, **head)}
  config.objective = dict(kind=task)


def _ways(config) -> int:
  return 2 if config.model.kind == "bidirectional_lm" else 1


ENCODERS = {"lstm": lstms, "transformer": transformer}
OUTPUTS = {"continuous": continuous, "sampled": sampled, "adaptive": adaptive}
# The words' vectors, which nothing learns, mapped to the width and normed.
_INPUTS = dict(kind="given_vectors", norm=dict(kind="layer_norm"))
_START = dict(std=1.0, fan_in=True, table_std=1.0)
