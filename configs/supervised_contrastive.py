"""Supervised contrastive fine-tuning (Gunel et al., arXiv:2011.01403).

  jaxlm train --config=supervised_contrastive:classification \
      --config.init_from=runs/mine --config.data.files=train.tsv \
      --config.data.validation_files=dev.tsv --workdir=runs/task

`finetune` whose loss also draws sentences of a class together: for few
examples and noisy labels. Batches are balanced, so that each sentence has
another of its class. The paper's grid: share 0.1 to 1, temperature 0.1 to 0.7,
batch 16, rate 1e-5, RoBERTa large.
"""

from configs import common, finetune

SIZES = {"classification": "classify"}


def get_config(variant: str = "classification"):
  """The recipe."""
  common.size(SIZES, variant)
  config = finetune.get_config(variant)
  config.batch_size = 16
  config.data.balanced = True
  config.objective = dict(
    kind="supervised_contrastive", share=0.9, temperature=0.3
  )
  config.optimizer.learning_rate = 1e-5
  return config
