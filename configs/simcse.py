"""SimCSE (Gao et al., arXiv:2104.08821): sentence embeddings by contrast.

Unsupervised, a sentence a line, which finds itself under another dropout:

  jaxlm train --config=simcse:unsupervised --config.init_from=runs/bert \
      --config.data.files=wiki.txt --workdir=runs/simcse

Supervised, columns of premise, entailment and contradiction:

  jaxlm train --config=simcse:supervised --config.init_from=runs/bert \
      --config.data.files=nli.csv --workdir=runs/simcse

`init_from` is a workdir or a Hugging Face folder. Published (BERT base): 1M
sentences of Wikipedia, one epoch, batch 64, rate 3e-5, 76.25 mean Spearman
over seven tasks; supervised, batch 512, 5e-5, 3 epochs of NLI, 81.57. The
release keeps the best of all checkpoints on STS-B's development set, every 125
steps; here each is kept: `jaxlm evaluate --checkpoint=runs/simcse/checkpoints/
125 --sts=dev.tsv`. `unsupervised_mlm` adds its auxiliary masked LM; `tiny` is
for tests.
"""

from configs import bert, common

SIZES = {
  name: name
  for name in ("tiny", "unsupervised", "unsupervised_mlm", "supervised")
}


def get_config(variant: str = "unsupervised"):
  """The recipe of a variant."""
  variant = common.size(SIZES, variant)
  if variant == "tiny":
    return _tiny()
  supervised = variant == "supervised"
  config = _common("kept" if supervised else "training")
  config.steps = "3 epochs" if supervised else "1 epochs"
  config.batch_size = 512 if supervised else 64
  config.optimizer.learning_rate = 5e-5 if supervised else 3e-5
  config.tokenizer = dict()  # that of the model to start from
  if supervised:
    config.data.columns = ("sent0", "sent1", "hard_neg")
  if variant == "unsupervised_mlm":
    config.data.masking = dict(
      kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1
    )
    config.model.heads.masked_lm = dict(kind="masked_lm")
    config.objective.masked_lm = 0.1
  return config


def _common(projection):
  config = common.base()
  config.data = dict(
    kind="sentences",
    files="",
    validation_files="",
    columns=(),
    length=32,
    validation_share=0.0,
  )
  config.model = dict(
    heads=dict(embed=dict(kind="embed", pooling="cls", projection=projection))
  )
  config.objective = dict(kind="simcse", temperature=0.05)
  config.optimizer = dict(
    kind="adamw", learning_rate=3e-5, eps=1e-8, weight_decay=0.0
  )
  config.schedule = dict(kind="linear", warmup=0.0)
  config.checkpoint = dict(every=125, keep=100)
  return config


def _tiny():
  """A small BERT from nothing."""
  plain = bert.get_config("tiny")
  config = _common("kept")
  heads = config.model.heads
  config.model = plain.model
  config.model.heads = heads
  config.tokenizer = plain.tokenizer
  config.batch_size = 32
  config.optimizer.learning_rate = 2e-3
  return config
