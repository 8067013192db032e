"""Vocabularies for any script: what would destroy a text is refused."""

import gzip
import unicodedata

import pytest

from jaxlm import configuration, errors
from jaxlm.data import datasets, tokenizers
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import _fitting, reporting
from tests.data import real

NEPALI = "नेपाली भाषामा लेखिएको पुस्तक"


@pytest.fixture(scope="module")
def nepali(shared):
  """Sentences of FLORES, one a document: (dev, devtest)."""
  found = []
  for split in ("dev", "devtest"):
    path = shared / f"text/flores-ne-en/{split}.ne.gz"
    if not path.is_file():
      pytest.skip(f"the shared data has no {path.name}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
      found.append([line.strip() for line in file if line.strip()])
  return found


def bert(*, lower: bool) -> Tokenizer:
  """The pipeline of transformers' BertTokenizerFast, whatever its pieces."""
  import tokenizers as library
  from tokenizers import models, normalizers, pre_tokenizers

  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "the", "dog"]
  made = library.Tokenizer(
    models.WordPiece(
      {piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"
    )
  )
  made.normalizer = normalizers.BertNormalizer(lowercase=lower)
  made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  roles = dict(pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]")
  return Tokenizer(made.to_str(), roles | dict(mask="[MASK]"))


def test_a_vocabulary_that_deletes_vowels_is_refused():
  uncased = bert(lower=True)
  with pytest.raises(
    errors.UserError, match="'नेपाली' becomes 'नपाली'.*init_from"
  ):
    _fitting.check(uncased, [NEPALI])
  _fitting.check(uncased, ["the café, Müller, the dog, a naïve résumé"] * 3)
  cased = bert(lower=False)
  lines = []
  _fitting.check(cased, [NEPALI], lines.append)
  assert lines == [
    "Vocabulary: 100.0% of the tokens of the first documents are unknown to "
    "it: it was made for another script or language."
  ]


def test_a_word_in_another_script_is_no_reason():
  text = ["the dog " * 2000 + NEPALI.split()[0]]
  _fitting.check(bert(lower=True), text, lambda line: None)


@pytest.mark.parametrize(
  "word, script",
  [
    ("ދިވެހި", "Thaana"),
    ("ไทยนี้", "Thai"),
    ("বাংলু", "Bengali"),
    ("မြန်မာ", "Burmese"),
    ("ខ្មែរុ", "Khmer"),
  ],
)
def test_scripts_that_write_vowels_with_marks(word, script):
  with pytest.raises(errors.UserError, match="deletes vowel signs"):
    _fitting.check(bert(lower=True), [word] * 3)


def test_joiners_that_go_are_told():
  lines = []
  _fitting.check(bert(lower=False), ["र्\u200dयाल"], lines.append)
  assert "drops the joiners of 1 of 1 words" in lines[0]
  own = tokenizers.train(
    dict(kind="wordpiece", vocab_size=60), ["र्\u200dयाल"] * 9
  )
  lines.clear()
  _fitting.check(own, ["र्\u200dयाल"], lines.append)
  assert lines == []


def test_packed_text_asks_before_a_cache_is_made(tmp_path):
  (tmp_path / "ne.txt").write_text("\n\n".join([NEPALI] * 40))
  bert(lower=True).save(tmp_path / "uncased")
  data = datasets.build(dict(kind="packed", files=str(tmp_path / "ne.txt")))
  for kind in ("wordpiece", "file"):
    with pytest.raises(errors.UserError, match="deletes vowel signs"):
      data.build(
        tokenizer=dict(kind=kind, path=str(tmp_path / "uncased")),
        workdir=tmp_path / "run",
        seed=0,
      )
  assert not (tmp_path / "run" / "cache").exists()


def test_published_vocabularies_on_real_nepali(shared, tmp_path, nepali):
  real.unpack(
    shared, tmp_path, "vocab/bert-base-uncased-vocab.txt.gz", "unc/vocab.txt"
  )
  real.unpack(shared, tmp_path, "vocab/gpt2-encoder.json.gz", "g/vocab.json")
  real.unpack(shared, tmp_path, "vocab/gpt2-vocab.bpe.gz", "g/merges.txt")
  words = " ".join(nepali[0][: _fitting.DOCUMENTS]).split()
  with pytest.raises(errors.UserError) as error:
    _fitting.check(Tokenizer.load(tmp_path / "unc" / "vocab.txt"), nepali[0])
  # Independent count: every non-spacing mark of the text goes.
  seen = _fitting._words(nepali[0])
  lost = sum(unicodedata.category(c) == "Mn" for w in seen for c in w)
  assert f"({lost:,} signs" in str(error.value) and len(words) >= len(seen) > 0
  lines = []
  _fitting.check(
    Tokenizer.load(tmp_path / "g" / "vocab.json"), nepali[0], lines.append
  )
  assert "at their vowel signs" in lines[0]


@pytest.mark.parametrize("variant", ["bert", "roberta", "gpt2"])
def test_vocabularies_of_the_config_keep_nepali(variant, nepali):
  """Trained on dev, measured on devtest."""
  spec = configuration.load(f"nepali:{variant}").tokenizer.to_dict()
  made = tokenizers.train(spec | dict(vocab_size=4000), nepali[0])
  found = reporting.report(made, nepali[1])
  assert found["marks_kept"] == 1.0
  assert found["round_trips"] > (0.98 if variant == "bert" else 0.9999)
  assert found["unknown_rate"] < 0.001
  assert found["tokens_per_word"] < 2.2
  lines = []
  _fitting.check(made, nepali[1], lines.append)
  assert lines == []


def test_marks_decide_where_words_are_cut():
  word = "नेपाली"
  own = tokenizers.train(dict(kind="byte_bpe", vocab_size=300), [NEPALI] * 5)
  assert not own.cuts_at_marks(word)
  assert not bert(lower=False).cuts_at_marks(word)
