"""The unigram language model over pieces.

Source: Kudo, arXiv:1804.10959. SentencePiece fits it on one thread, because
the trainer of the `tokenizers` library gives other bytes in every process; the
result is a pipeline of that library like all vocabularies here.
"""

import dataclasses
import io

from tokenizers import normalizers

from jaxlm import errors
from jaxlm.data import _sentencepiece
from jaxlm.data.tokenizers import (
  _normalizing,
  _sampling,
  _training,
  tokenizers,
)


@tokenizers.register(
  "unigram",
  paper="arXiv:1804.10959",
  example={"vocab_size": 32768},
)
@dataclasses.dataclass(frozen=True)
class Unigram(_training.Trained):
  """The likeliest pieces of a text; a word begins with "▁".

  Attributes:
    byte_fallback: spell unknown characters as bytes (256 pieces), so that
      nothing is unknown. Characters beyond the most frequent quarter of
      `vocab_size` are spelled so, too.
  """

  byte_fallback: bool = True

  def _fit(self, lines):
    normalizer = normalizers.Sequence(
      [
        *_normalizing.cleaning(),
        *_normalizing.unicode_form(
          self.normalization, self.lowercase, self.strip_accents
        ),
        *_normalizing.spaces(),
      ]
    )
    lines = [normalizer.normalize_str(line) for line in lines]
    model = self._model(lines)
    text, _, _ = _sentencepiece.convert(
      model, normalizer, {}, specials=self.specials, template=self.template
    )
    return text

  def _model(self, lines):
    import sentencepiece

    tokens = list(dict.fromkeys(self.specials.values()))
    fixed = len(tokens) + 256 * self.byte_fallback
    _training.room(
      self.vocab_size,
      fixed,
      f"{len(tokens)} special tokens" + " and 256 bytes" * self.byte_fallback,
    )
    written = io.BytesIO()
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type="unigram",
        vocab_size=self.vocab_size,
        hard_vocab_limit=False,
        byte_fallback=self.byte_fallback,
        character_coverage=_coverage(lines, self.vocab_size // 4),
        normalization_rule_name="identity",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        pad_piece=self.specials["pad"],
        unk_piece=self.specials["unk"],
        control_symbols=tokens[2:],
        num_threads=1,  # more than one changes the bytes
        max_sentence_length=1 << 20,
        minloglevel=2,
      )
    except RuntimeError as error:
      raise errors.UserError(
        f"tokenizer.vocab_size={self.vocab_size} cannot be trained on this "
        f"text: {error}"
      ) from error
    return _sentencepiece.parse(written.getvalue(), "the trained vocabulary")


def _coverage(lines, most: int) -> float:
  """Share of the text that its `most` frequent characters make."""
  kept = set(_sampling.characters(lines, most))
  total = sum(len(line) - line.count(" ") for line in lines)
  inside = sum(sum(c in kept for c in line) for line in lines)
  return 1.0 if inside >= total else inside / total
