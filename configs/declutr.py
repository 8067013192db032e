"""DeCLUTR (Giorgi et al., arXiv:2006.03659): contrast of spans of documents.

  jaxlm train --config=declutr:base --config.init_from=runs/roberta \
      --config.data.files='corpus/*.txt' --workdir=runs/declutr

A RoBERTa's masked LM goes on from `init_from`, a workdir or a Hugging Face
folder, while spans of a document find each other; `scratch` starts from
nothing. Documents, a blank line between them, have 2,040 tokens or more;
shorter ones are left out (`--config.data.length=128`: 504). Rows are anchors,
two a document: 32 rows are 16 documents. Published (RoBERTa base): one epoch
of OpenWebText, rate 5e-5; mean of SentEval's downstream tasks but SNLI, 72.70
to 79.10. Batch size and all of `scratch` are our choice. `tiny` is for tests.
"""

from configs import common, roberta

SIZES = {"tiny": "tiny", "base": "base", "scratch": "base"}


def get_config(variant: str = "base"):
  """DeCLUTR going on from a RoBERTa, `scratch`, or `tiny`."""
  config = roberta.get_config(common.size(SIZES, variant))
  config.microbatches = 1  # of fewer rows, fewer negatives
  config.clip_norm = 1.0
  config.data = dict(
    kind="spans",
    files="",
    length=512,
    shortest=32,
    anchors=2,
    positives=2,
    where="anywhere",
    masking=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
    validation_share=0.01,
  )
  config.model.heads.embed = dict(kind="embed", pooling="mean")
  config.objective = dict(kind="declutr", temperature=0.05, masked_lm=1.0)
  if variant == "tiny":
    config.data.length, config.data.shortest = 32, 16
    config.optimizer.learning_rate = 1e-2  # a step predicts 100 tokens
  elif variant == "scratch":
    config.batch_size = 512
  else:
    _going_on(config)
  return config


def _going_on(config):
  """The release's settings, in place."""
  heads = config.model.heads
  config.model = dict(heads=heads)
  config.tokenizer = dict()  # that of the model to start from
  config.steps = "1 epochs"
  config.batch_size = 32
  config.optimizer = dict(
    kind="adamw",
    learning_rate=5e-5,
    eps=1e-6,
    weight_decay=0.1,
    bias_correction=False,
  )
  config.schedule = dict(kind="linear", warmup=0.1, final=1 / 32)
