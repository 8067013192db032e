"""BERT's two objectives at once: masked LM and next sentence."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("masked_lm_next_sentence", paper="arXiv:1810.04805")
@dataclasses.dataclass(frozen=True)
class MaskedLMNextSentence:
  """Masked LM plus whether B follows A (label 0) or not (label 1).

  Reads what masked LM reads, and `cls_positions`, `labels`, `label_weights`
  [batch, k].

  Attributes:
    next_sentence: coefficient of the second term.
  """

  next_sentence: float = 1.0
  keeps_updates = True
  features = (
    "predict_positions",
    "predict_ids",
    "predict_weights",
    "cls_positions",
    "labels",
    "label_weights",
  )

  @property
  def coefficients(self):
    """Factor of each term."""
    return {"next_sentence": self.next_sentence}

  def weights(self, batch):
    """Numbers of tokens and of sentence pairs."""
    return {
      "masked_lm": jnp.sum(batch["predict_weights"]),
      "next_sentence": jnp.sum(batch["label_weights"]),
    }

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    tokens, metrics = base.token_terms(
      base.output(outputs, "masked_lm"),
      batch["predict_ids"],
      batch["predict_weights"],
    )
    pairs, right = base.token_terms(
      base.output(outputs, "next_sentence"),
      batch["labels"],
      batch["label_weights"],
    )
    metrics["next_sentence_accuracy"] = right["accuracy"]
    sums = {"masked_lm": tokens, "next_sentence": pairs}
    return Outcome(sums, metrics, base.updates(outputs))
