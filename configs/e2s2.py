"""E2S2 (Zhong et al., arXiv:2205.14912): BART whose encoder is trained, too.

  jaxlm train --config=e2s2:large --config.data.files='corpus/*.txt' \
      --config.init_from=path/of/bart-large --workdir=runs/e2s2

Beside the text, the encoder says which tokens of its input were shuffled or
replaced, and its states of two views of a text must find each other. Released
recipe: 50k steps from BART-large, rows of 1,024 tokens, rate 1.5e-6 after 6k
steps of warm-up; its batch is not told. Claimed: 1.1 points of GLUE above
BART. `tiny` is for tests.
"""

from configs import bart, common

SIZES = {name: name for name in ("tiny", "base", "large")}


def get_config(variant: str = "large"):
  """BART at a published size on E2S2's noise and objective, or `tiny`."""
  config = bart.get_config(common.size(SIZES, variant))
  config.data.corruption = dict(
    kind="e2s2",
    infilling=dict(rate=0.15, mean_span=3.0),
    shuffle=0.05,
    replace=0.05,
  )
  config.model.encoder_heads = dict(corruption=dict(kind="tag", classes=3))
  config.objective = dict(kind="e2s2", detection=0.05, contrast=0.05)
  if variant != "tiny":
    config.steps = 50_000
    config.data.length = 1024
    config.optimizer.learning_rate = 1.5e-6
    config.schedule.warmup = 0.12
  return config
