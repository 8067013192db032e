"""GradNormLoRP (Huang et al., arXiv:2412.19616): GaLore on directions.

  jaxlm train --config=gradnormlorp:60m --config.data.files='corpus/*.txt' \
      --workdir=runs/gradnormlorp

GaLore's models and data; the optimizer is normalised by outputs, and its
moments take 8 bits. Claim: up to 89.5% less optimizer memory.
"""

from configs import galore

SIZES = galore.SIZES


def get_config(variant: str = "60m"):
  """The config of `galore` with the paper's optimizer."""
  config = galore.get_config(variant)
  rank = config.optimizer.rank
  config.optimizer = dict(
    kind="gradnormlorp",
    learning_rate=0.01,
    rank=rank,
    refresh=250,
    scale=0.25,
    eight_bit=True,
  )
  return config
