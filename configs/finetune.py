"""Fine-tuning on a labelled file (BERT's recipe, arXiv:1810.04805, A.3).

  jaxlm train --config=finetune:classification --config.init_from=runs/mine \
      --config.data.files=train.tsv --config.data.validation_files=dev.tsv \
      --config.data.text=sentence --config.data.label=label \
      --workdir=runs/task

Variants: classification, regression, tagging. `init_from` is a workdir or a
Hugging Face folder; model and tokenizer are its own, with a new head. The
published grid: batch 16 or 32, rate 5e-5 to 2e-5, 2 to 4 epochs.
"""

from configs import common

# head kind
SIZES = {
  "classification": "classify",
  "regression": "regress",
  "tagging": "tag",
}


def get_config(variant: str = "classification"):
  """The recipe of one task."""
  head = common.size(SIZES, variant)
  config = common.base()
  config.steps = "3 epochs"
  config.batch_size = 32
  config.data = dict(
    kind="labelled",
    files="",
    validation_files="",
    task=variant,
    text="text",
    label="label",
    length=128,
  )
  config.tokenizer = dict()
  config.model = dict(heads={head: dict(kind=head, dropout=0.1)})
  config.objective = dict(kind=variant)
  config.optimizer = dict(
    kind="adamw", learning_rate=5e-5, eps=1e-6, weight_decay=0.01
  )
  config.schedule = dict(kind="linear", warmup=0.1)
  config.checkpoint.every = 500
  config.evaluation = dict(every=500, batches=0)
  return config
