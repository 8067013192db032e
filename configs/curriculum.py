"""GPT-2 on several sources whose shares change with the steps.

  jaxlm train --config=curriculum:small --workdir=runs/curriculum \
      --config.data.sources.easy.files=childes.txt \
      --config.data.sources.hard.files='books/*.txt'

Rates as of a seqio Mixture (arXiv:1910.10683), in stages (Bengio et al., ICML
2009): mostly easy text, then both, then mostly hard text. Sources are named
freely; `--config.data.rates="dict(easy=1, hard=3)"` with
`--config.data.stages="dict()"` is a mixture without a curriculum. Starts are
steps and ours. `tiny` is for tests.
"""

from configs import common, gpt2

SIZES = {"tiny": "tiny", "small": "small"}


def get_config(variant: str = "small"):
  """GPT-2 on easy text and hard text."""
  config = gpt2.get_config(common.size(SIZES, variant))
  config.steps = 300 if variant == "tiny" else 30_000
  data = config.data
  config.data = dict(
    kind="mixture",
    length=data.length,
    arrangement=data.arrangement.to_dict(),
    corruption=data.corruption.to_dict(),
    sources=dict(
      easy=dict(kind="packed", files=""), hard=dict(kind="packed", files="")
    ),
    rates=dict(easy=0.8, hard=0.2),
    stages=dict(
      both=dict(start=config.steps // 3, rates=dict(easy=0.5, hard=0.5)),
      hard=dict(start=2 * config.steps // 3, rates=dict(easy=0.2, hard=0.8)),
    ),
  )
  return config
