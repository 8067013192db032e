"""CLEAR (Wu et al., arXiv:2012.15466): contrast of sentences, from scratch.

  jaxlm train --config=clear:base --config.data.files=sentences.txt \
      --workdir=runs/clear

One sentence a line. Each is reworded twice, by deleted words and reordered
spans (the paper's best for SST-2), and finds its other wording in the batch,
beside a masked LM on the sentences as they are. Published: RoBERTa base's
size, STS-B Pearson 90.5 after fine-tuning with deleted words. Shares of the
rewordings and temperature are our choice. `tiny` is for tests.
"""

from configs import bert, common

SIZES = {"tiny": "tiny", "base": "base"}


def get_config(variant: str = "base"):
  """CLEAR at BERT's size, or `tiny`."""
  config = bert.get_config(common.size(SIZES, variant))
  config.steps = 500_000
  config.data = dict(
    kind="sentences",
    files="",
    length=64 if variant == "base" else 32,
    masking=dict(kind="masking", rate=0.15, mask=0.8, random=0.1, keep=0.1),
    augment=dict(
      delete_words=dict(rate=0.2), reorder=dict(pairs=2, share=0.05)
    ),
    validation_share=0.01,
  )
  config.model.heads = dict(
    masked_lm=dict(kind="masked_lm"),
    embed=dict(kind="embed", pooling="cls", projection="training"),
  )
  if variant == "tiny":  # tests look for it without training
    config.model.heads.embed.projection = "kept"
  config.objective = dict(kind="clear", temperature=0.1, masked_lm=1.0)
  return config
