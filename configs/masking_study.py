"""What to hide and how much to predict, on a CPU (Wettig et al.,
arXiv:2202.08005, their tables at the size of a pilot).

  jaxlm train --config=masking_study:10_40 --config.data.files=stories.txt \
      --workdir=runs/10_40 --config.seed=1

A variant is named by the percentages that are hidden and predicted, and the
unit. All read 32 sequences an update, of which several rows are made where
more is predicted than hidden, and are held out at the same 15%. `40_40_rows`
spends the rows of `10_40` on other text. PMI wants the file of `jaxlm pmi`:
--config.data.corruption.unit.vocabulary=pmi.tsv.
"""

from configs import common, efficient_mlm

SEQUENCES = 32

# hidden, predicted, unit, rows an update
SIZES = {
  "tiny": (0.2, 0.4, "uniform", 2 * SEQUENCES),
  "15_15": (0.15, 0.15, "uniform", SEQUENCES),
  "20_20": (0.2, 0.2, "uniform", SEQUENCES),
  "40_40": (0.4, 0.4, "uniform", SEQUENCES),
  "80_80": (0.8, 0.8, "uniform", SEQUENCES),
  "40_20": (0.4, 0.2, "uniform", SEQUENCES),
  "20_40": (0.2, 0.4, "uniform", 2 * SEQUENCES),
  "10_40": (0.1, 0.4, "uniform", 5 * SEQUENCES),
  "40_40_rows": (0.4, 0.4, "uniform", 5 * SEQUENCES),
  "15_15_words": (0.15, 0.15, "whole_word", SEQUENCES),
  "15_15_span": (0.15, 0.15, "span", SEQUENCES),
  "40_40_span": (0.4, 0.4, "span", SEQUENCES),
  "15_15_pmi": (0.15, 0.15, "pmi", SEQUENCES),
  "40_40_pmi": (0.4, 0.4, "pmi", SEQUENCES),
}


def get_config(variant: str = "40_40"):
  """A run of the study, or `tiny`."""
  hidden, predicted, unit, rows = common.size(SIZES, variant)
  config = efficient_mlm.get_config("tiny")
  config.steps = 600
  config.batch_size = rows
  corruption = config.data.corruption
  corruption.rate = hidden
  corruption.predict_rate = predicted
  corruption.count = "exact"
  corruption.unit = dict(kind=unit)
  config.data.evaluation_corruption.count = "exact"
  if unit == "pmi":
    corruption.unit.vocabulary = "pmi.tsv"
  if variant == "tiny":
    return config
  config.data.arrangement = dict(kind="blocks", unit="tokens")
  config.tokenizer.vocab_size = 4000
  model = config.model
  model.width, model.depth = 128, 3
  model.layers.layer.mixer.heads = 4
  model.layers.layer.feedforward.hidden = 512
  return config
