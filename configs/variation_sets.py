"""GPT-2 on child-directed speech with variation sets (arXiv:2411.09587).

  jaxlm train --config=variation_sets:together \
      --config.data.files=childes.txt --workdir=runs/sets
  jaxlm evaluate --checkpoint=runs/sets --pairs='blimp/*.jsonl'

Haga et al., "BabyLM Challenge: Exploring the Effect of Variation Sets on
Language Model Training Efficiency", 2024. Files hold one utterance a line and
a blank line between transcripts (CHILDES). `together` presents the utterances
of a set in one context, `adjacent` in the same place of adjacent batches, and
`shuffled` in random order, the control. Published: shares of 0 to 100% in
steps of 20, sets written by GPT-4o mini (`--config.data.sets=dict(kind='file',
path='sets.jsonl')`; here rules make them unless told); BLiMP and GLUE gain,
EWoK does not; the best share depends on the benchmark. Sizes, learning rate
and epochs were not found in the paper: these are of community BabyLM
baselines. `mini` (4 layers of width 128) trains on a CPU, `tiny` is for tests.
"""

from configs import common, gpt2

# size of the model, presentation
SIZES = {
  "tiny": ("tiny", "together"),
  "tiny_adjacent": ("tiny", "adjacent"),
  "mini": ("mini", "together"),
  "mini_adjacent": ("mini", "adjacent"),
  "mini_shuffled": ("mini", "shuffled"),
  "together": ("small", "together"),
  "adjacent": ("small", "adjacent"),
  "shuffled": ("small", "shuffled"),
}
UTTERANCES = 4  # of a set


def get_config(variant: str = "together"):
  """GPT-2 on utterances in one of the orders."""
  size, presentation = common.size(SIZES, variant)
  config = gpt2.get_config("tiny" if size == "mini" else size)
  config.steps = "10 epochs"
  config.batch_size = 32
  config.data = _data(presentation, 64 if size == "tiny" else 128)
  if size == "mini":
    config.tokenizer.vocab_size = 8192
    config.model.width, config.model.depth = 128, 4
    layer = config.model.layers.layer
    layer.mixer.heads, layer.feedforward.hidden = 4, 512
  return config


def _data(presentation: str, length: int) -> dict:
  data = dict(
    kind="variation_sets",
    files="",
    length=length,
    share=0.4,
    sets=dict(kind="rules", size=UTTERANCES),
    presentation="together",
  )
  if presentation == "shuffled":
    return data | dict(presentation="shuffled")
  if presentation == "together":
    return data
  return data | dict(
    length=32,
    arrangement=dict(kind="separate"),
    order=dict(kind="lanes", steps=UTTERANCES),
  )
