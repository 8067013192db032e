"""A language's own models: BERT, RoBERTa and GPT-2 for Nepali.

  jaxlm train --config=nepali:roberta --config.data.files='corpus/*.txt' \
      --workdir=runs/nepali
  jaxlm tokenizer --config=nepali:roberta ...    # tokens a word, marks kept

"Development of Pre-Trained Transformer-based Models for the Nepali Language"
(arXiv:2411.15734): the three models on 27.5 GB of text, Nep-gLUE 95.60, 2
points above the best before. Its training settings were not found; sizes are
those of the papers of the models (GPT-2's of its published config, 124M), and
so are the rates. They work for any script: no case is folded and no mark is
stripped, text is NFC, and words are not cut at vowel signs, which GPT-2's own
vocabulary does. To go on from a model of another language, add
`--config.init_from=FOLDER`: rows of tokens move to the new vocabulary. Small
corpora take a smaller `--config.tokenizer.vocab_size`. `tiny` is for tests.
"""

from configs import bert, common, gpt2, roberta

# model, size, vocabulary
SIZES = {
  "tiny": (roberta, "tiny", 1024),
  "tiny_bert": (bert, "tiny", 1024),
  "tiny_gpt2": (gpt2, "tiny", 1024),
  "bert": (bert, "base", 32_000),
  "roberta": (roberta, "base", 50_265),
  "gpt2": (gpt2, "small", 50_257),
}


def get_config(variant: str = "roberta"):
  """One of the three models with a vocabulary that keeps all marks."""
  model, size, vocab = common.size(SIZES, variant)
  config = model.get_config(size)
  config.tokenizer.vocab_size = vocab
  config.tokenizer.lowercase = False
  config.tokenizer.strip_accents = False
  config.tokenizer.normalization = "nfc"
  if model is roberta:
    # As GPT-2's and BERT's: the original's 8192 rows are for 160 GB.
    config.batch_size, config.microbatches = 256, 1
  return config
