"""Fine-tuning with FSAM (Zhong et al., arXiv:2210.05497).

  jaxlm train --config=fsam_finetune:classification \
      --config.init_from=runs/mine --config.data.files=train.tsv \
      --config.data.validation_files=dev.tsv --workdir=runs/task

`finetune` with the optimizer of the paper's RoBERTa-large runs: a step costs
two gradients. Grid: rho 1e-2, 5e-3, 1e-3; rates 1e-5 and 2e-5; 10 epochs.
"""

from configs import finetune

SIZES = finetune.SIZES


def get_config(variant: str = "classification"):
  """The recipe of one task."""
  config = finetune.get_config(variant)
  config.steps = "10 epochs"
  # SAM climbs the whole gradient, and clips the one that it descends.
  config.clip_norm = 0.0
  config.optimizer = dict(
    kind="fsam",
    learning_rate=1e-5,
    rho=0.005,
    keep=0.5,
    refresh=100,
    base=dict(kind="adamw", b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.01),
  )
  config.schedule = dict(kind="linear", warmup=0.06)
  return config
