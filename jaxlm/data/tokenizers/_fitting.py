"""Whether a vocabulary that exists suits a text, before it is trained on.

A vocabulary for another script can destroy text in silence: BERT's uncased
ones delete Devanagari's vowel signs ("नेपाली" becomes "नपाली"), and with them
the words.
"""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from jaxlm import errors
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import _normalizing

DOCUMENTS, CHARACTERS = 500, 200_000
_JOINERS = "\u200c\u200d"
_UNKNOWN = 0.05  # of tokens


def check(
  tokenizer: Tokenizer,
  documents: Iterable[str],
  report: Callable[[str], None] = print,
) -> None:
  """Refuses a vocabulary that deletes vowels; tells of what else it harms.

  Args:
    tokenizer: one that was not trained on the documents.
    documents: of which the first are looked at.
    report: told of joiners that go, words that are cut at vowel signs and
      many unknown tokens.

  Raises:
    UserError: vowel signs go, more than one in a thousand letters.
  """
  words = _words(documents)
  _refuse_lost_signs(tokenizer, words)
  for told in (
    _joiners(tokenizer, words),
    _cuts(tokenizer, words),
    _unknown(tokenizer, words),
  ):
    if told:
      report(f"Vocabulary: {told}")


def _words(documents) -> list[str]:
  """Words of the first documents, in NFC."""
  found, size = [], 0
  for document in itertools.islice(documents, DOCUMENTS):
    found += unicodedata.normalize("NFC", document[:CHARACTERS]).split()
    size += len(document)
    if size > CHARACTERS:
      break
  return found


def _refuse_lost_signs(tokenizer, words) -> None:
  lost, example = 0, ""
  for word in filter(_normalizing.vowel_signs, words):
    seen = unicodedata.normalize("NFC", tokenizer.normalize(word))
    before = Counter(_normalizing.vowel_signs(word))
    gone = before - Counter(_normalizing.vowel_signs(seen))
    lost += gone.total()
    if gone and not example:
      example = f"'{word}' becomes '{seen.strip()}'"
  letters = sum(sum(map(str.isalpha, word)) for word in words)
  if lost > _normalizing.SHARE * letters:
    raise errors.UserError(
      f"This vocabulary deletes vowel signs: {example} ({lost:,} signs beside "
      f"{letters:,} letters in the first documents). It was made for another "
      "script: leave config.tokenizer.path out and train one "
      "(kind='wordpiece' or 'byte_bpe', strip_accents=False), or take a cased "
      "vocabulary. To keep a trained model, name it by config.init_from: its "
      "rows move to the new vocabulary."
    )


def _joiners(tokenizer, words) -> str:
  joined = [w for w in words if any(c in w.strip(_JOINERS) for c in _JOINERS)]
  lost = [
    w for w in joined if not any(c in tokenizer.normalize(w) for c in _JOINERS)
  ]
  if not lost:
    return ""
  return (
    f"it drops the joiners of {len(lost):,} of {len(joined):,} words that have "
    f"some, such as {ascii(lost[0])}: text that it writes looks different."
  )


def _cuts(tokenizer, words) -> str:
  signed = [w for w in words if _normalizing.vowel_signs(w)]
  cut = [w for w in signed if tokenizer.cuts_at_marks(w)]
  if not cut:
    return ""
  return (
    f"it cuts {len(cut):,} of {len(signed):,} words at their vowel signs, such "
    f"as '{cut[0]}', and can have no piece for them: a byte_bpe of jaxlm's own "
    "takes about half the tokens."
  )


def _unknown(tokenizer, words) -> str:
  ids = [i for row in tokenizer.encode_batch(words) for i in row]
  share = ids.count(tokenizer.special_ids.get("unk", -1)) / max(len(ids), 1)
  if share <= _UNKNOWN:
    return ""
  return (
    f"{share:.1%} of the tokens of the first documents are unknown to it: it "
    "was made for another script or language."
  )
