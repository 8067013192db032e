"""TaCL (Su et al., arXiv:2111.04198): token-aware contrast with a teacher.

  jaxlm train --config=tacl:base --config.init_from=runs/bert \
      --config.data.files='corpus/*.txt' --workdir=runs/tacl

BERT's pre-training goes on from `init_from`, a workdir or a Hugging Face
folder, whose frozen copy teaches. Text needs one sentence a line and a blank
line between documents. Published (BERT base): 150k steps of 256 rows of 256
tokens on Wikipedia, rate 1e-4; GLUE 79.6 to 81.2, SQuAD 2.0 F1 76.8 to 77.5.
`tiny` is for tests: it starts from nothing, and so does its teacher.
"""

from configs import bert, common

SIZES = {"tiny": "tiny", "base": "base"}


def get_config(variant: str = "base"):
  """TaCL from a BERT, or `tiny`."""
  config = bert.get_config(common.size(SIZES, variant))
  config.objective = dict(
    kind="tacl",
    base=dict(kind="masked_lm_next_sentence"),
    contrast=1.0,
    temperature=0.01,
  )
  if variant == "tiny":
    config.objective.contrast = 0.1  # its teacher knows nothing
  else:
    heads = config.model.heads
    config.model = dict(heads=heads)
    config.tokenizer = dict()  # that of the model to start from
    config.steps = 150_000
    config.data.length = 256
  return config
