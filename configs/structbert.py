"""StructBERT (Wang et al., arXiv:1908.04577): order of words and sentences.

  jaxlm train --config=structbert:base --config.data.files='corpus/*.txt' \
      --workdir=runs/structbert

BERT that also puts shuffled trigrams in order, and tells whether a sentence
follows, precedes or is a stranger to another. Text needs one sentence a line
and a blank line between documents. Published: GLUE 89.0, SQuAD v1.1 F1 93.0;
code and rates of pre-training were not: these are BERT's. `tiny` is for tests.
"""

from configs import bert, common

# the size of BERT
SIZES = {name: name for name in ("tiny", "base", "large")}


def get_config(variant: str = "base"):
  """StructBERT at a size of BERT, or `tiny`."""
  config = bert.get_config(common.size(SIZES, variant))
  config.data.arrangement.relations = ("next", "previous", "random")
  masking = config.data.corruption.to_dict()
  del masking["kind"]
  config.data.corruption = dict(
    kind="word_structure", masking=masking, shuffle=0.05
  )
  config.model.heads.next_sentence.classes = 3
  return config
