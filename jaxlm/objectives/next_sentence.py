"""Masked LM and how two stretches of text stand: BERT, ALBERT, StructBERT."""

import dataclasses
from typing import ClassVar

from jaxlm.objectives import objectives
from jaxlm.objectives._beside_masked_lm import BesideMaskedLM


@objectives.register("masked_lm_next_sentence", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class MaskedLMNextSentence(BesideMaskedLM):
  """Masked LM plus how B stands to A: the labels of the arrangement `pairs`.

  BERT's are next and random, ALBERT's (arXiv:1909.11942) next and previous,
  StructBERT's (arXiv:1908.04577) all three; the head `next_sentence` has as
  many classes. Reads what masked LM reads, and `cls_positions`, `labels`,
  `label_weights` [batch, k].

  Attributes:
    next_sentence: coefficient of the second term.
  """

  next_sentence: float = 1.0
  second: ClassVar[str] = "next_sentence"
  labels: ClassVar[str] = "labels"
  label_weights: ClassVar[str] = "label_weights"
  features = (
    "predict_positions",
    "predict_ids",
    "predict_weights",
    "cls_positions",
    "labels",
    "label_weights",
  )
