"""NarrowBERT (Li et al., arXiv:2301.04761): layers where they are read.

  jaxlm train --config=narrowbert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/narrowbert

BERT whose last layers run on masked tokens alone: two whole layers, then ten
whose queries are masked tokens (SparseQueries), or all attention first and
then the feed-forwards of masked tokens (`context_first`). Fine-tuning
(`--config.init_from=runs/narrowbert`) goes on with the same model, whose late
layers then run on [CLS] alone. Published: twice the throughput of
pre-training, 3.5 times that of classifying sentences, at little loss of
quality; the recipe is that of the release, its number of devices is not told.
No class of transformers computes it. `tiny` and `tiny_context_first` are for
tests.
"""

from configs import bert, common

# BERT's size, whole layers, narrow layers; 0 for ContextFirst
SIZES = {
  "tiny": ("tiny", 1, 2),
  "tiny_context_first": ("tiny", 2, 0),
  "base": ("base", 2, 10),
  "context_first": ("base", 12, 0),
}


def get_config(variant: str = "base"):
  """NarrowBERT on BERT, at the published size or tiny."""
  size, whole, narrow = common.size(SIZES, variant)
  config = bert.get_config(size)
  if size == "base":
    config.steps = 70_000
    config.data.length = 512
  config.data.arrangement = dict(kind="blocks", unit="tokens")
  config.objective = dict(kind="masked_lm")
  del config.model.heads.next_sentence
  config.model.embeddings.types = 1
  config.optimizer.learning_rate = 5e-4
  config.optimizer.eps = 1e-8
  config.optimizer.bias_correction = True
  config.schedule.warmup = 0.02
  if size == "tiny":
    _small(config)
  if narrow:
    config.model = sparse_queries(config.model.to_dict(), whole, narrow)
  else:
    config.model.kind = "context_first_encoder"
    config.model.depth = whole
    config.model.stack = dict(kind="sequential")
  return config


def sparse_queries(plain: dict, whole: int, narrow: int) -> dict:
  """The spec of an encoder with `narrow` late layers of few queries."""
  embeddings, heads = plain.pop("embeddings"), plain.pop("heads")
  layer = dict(plain["layers"]["layer"])
  layer["mixer"] = dict(layer["mixer"], kind="cross_attention")
  late = dict(
    positions=dict(kind="none"),
    input_norm=False,
    layers=dict(layer=layer),
    depth=narrow,
  )
  return dict(
    kind="narrow_encoder",
    width=plain["width"],
    embeddings=embeddings,
    towers=dict(encoder=plain | dict(depth=whole), narrow=plain | late),
    heads=heads,
    norm=plain["norm"],
    initializer=plain["initializer"],
  )


def _small(config):
  """What so narrow a model needs to learn within 300 steps."""
  config.steps = 300
  config.tokenizer.vocab_size = 1024
  # Few tokens are read: at 15% it would take twice as many steps.
  config.data.corruption.rate = 0.4
  common.small(config, rate=5e-3)
