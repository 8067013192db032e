"""Masked LM on a day's budget: 40% masked (Wettig et al., arXiv:2202.08005).

  jaxlm train --config=efficient_mlm:large --config.data.files='corpus/*.txt' \
      --workdir=runs/efficient --config.steps=24h

RoBERTa large with norms in front, rows of 128 tokens of running text, nothing
but [MASK] in place of the masked. A run lasts as long as `steps` says in
hours, and its schedule with it. Published: 23,000 steps of 4096 rows of
Wikipedia and BooksCorpus, about a day on 8 GPUs; at 40% MNLI 84.5 and
QNLI 91.6, at 15% 84.2 and 90.9. The paper finds lower rates best for smaller
models: `base` takes 20%. `academic` is the recipe that it builds on (Izsak et
al., arXiv:2104.07705): BERT large, 15%, half the learning rate; its ten masks
for each row are new ones at every visit here. `tiny` is for tests.
"""

from configs import common, roberta

# layers, width, heads, feed-forward, vocabulary, length, masked share
SIZES = {
  "tiny": (2, 32, 2, 64, 512, 64, 0.4),
  "base": (12, 768, 12, 3072, 50_265, 128, 0.2),
  "large": (24, 1024, 16, 4096, 50_265, 128, 0.4),
  "academic": (24, 1024, 16, 4096, 30_522, 128, 0.15),
}
_MASKS = dict(mask=1.0, random=0.0, keep=0.0, count="unbiased")
_BERT_MASKS = dict(mask=0.8, random=0.1, keep=0.1, count="total")


def get_config(variant: str = "large"):
  """The recipe at one size."""
  depth, width, heads, hidden, vocab, length, rate = common.size(SIZES, variant)
  academic = variant == "academic"
  masks = _BERT_MASKS if academic else _MASKS
  config = roberta.get_config("large")
  config.steps = "24h"
  config.batch_size = 4096
  config.microbatches = 16
  config.data = dict(
    kind="packed",
    files="",
    length=length,
    arrangement=dict(kind="blocks", unit="tokens"),
    corruption=dict(kind="masking", rate=rate, **masks),
    # Losses at two rates cannot be compared: all are held out at one.
    evaluation_corruption=dict(kind="masking", rate=0.15, **masks),
  )
  if academic:
    config.tokenizer = dict(
      kind="wordpiece", vocab_size=vocab, lowercase=True, strip_accents=True
    )
  config.tokenizer.vocab_size = vocab
  model = config.model
  model.width, model.depth = width, depth
  model.final_norm = True
  model.layers.layer.block.kind = "pre_norm"
  model.layers.layer.mixer.heads = heads
  model.layers.layer.feedforward.hidden = hidden
  config.optimizer.learning_rate = 1e-3 if academic else 2e-3
  config.schedule = dict(kind="linear", warmup=0.06)
  if variant == "tiny":
    # What documents begin with is learned first, in some hundred steps.
    config.data.arrangement = dict(kind="documents")
    common.small(config)
  return config
