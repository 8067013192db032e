"""Taking notes on the fly (Wu et al., arXiv:2008.01466), on BERT and ELECTRA.

  jaxlm train --config=tnf:bert --config.data.files='corpus/*.txt' \
      --workdir=runs/tnf

Each rare word has a note, a running average of the states around it, which is
mixed into its row of the input while pre-training; what is fine-tuned and
exported is the plain encoder. Published: BERT's quality after 40% of its
time. `tiny` and `electra_tiny` are for tests: their bands of counts are those
of a corpus of some 1 MB.
"""

from configs import bert, common, electra

# the config beneath and its variant, words, least and largest count
SIZES = {
  "tiny": (bert, "tiny", 128, 5, 10),
  "electra_tiny": (electra, "tiny", 128, 5, 10),
  "bert": (bert, "base", 200_000, 100, 500),
  "electra": (electra, "base", 200_000, 100, 500),
}


def get_config(variant: str = "bert"):
  """Notes on BERT, or on both towers of ELECTRA."""
  beneath, size, words, least, largest = common.size(SIZES, variant)
  config = beneath.get_config(size)
  config.data = dict(
    kind="noted",
    files="",
    length=config.data.length,
    min_count=least,
    max_count=largest,
    words=words,
    spans=16,
    corruption=dict(config.data.corruption),
  )
  reach = 4 if "tiny" in variant else 16
  notes = dict(words=words, share=0.5, rate=0.1, reach=reach)
  if beneath is bert:
    _on_bert(config, notes, size)
  else:
    _on_electra(config, notes)
  return config


def _on_bert(config, notes, size):
  config.model.kind = "note_taking_encoder"
  config.model.notes = notes
  del config.model.heads.next_sentence  # documents come one by one
  config.objective = dict(kind="masked_lm")
  if size == "tiny":
    config.steps = 300
    config.tokenizer.vocab_size = 1024


def _on_electra(config, notes):
  width = config.model.towers.discriminator.width
  for tower in config.model.towers.values():
    tower.kind = "note_taking_encoder"
    tower.notes = notes
    # As wide as what notes are taken from.
    tables = dict(kind="factorized", types=2, table_width=width)
    same = tower.width == width
    tower.embeddings = dict(kind="token", types=2) if same else tables
