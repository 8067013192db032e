"""Sequence-to-sequence learning that trains the encoder, too (E2S2)."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import base, contrast, objectives
from jaxlm.types import Outcome


@objectives.register("e2s2", paper="arXiv:2205.14912")
@dataclasses.dataclass(frozen=True)
class E2S2:
  """Text from two views of it, noise found, views told apart.

  The decoder says the text from the infilled view and from the corrupted one;
  the encoder's head `corruption` says of each token of the corrupted view
  whether it was kept, shuffled or replaced; the mean states of both views
  find each other in the batch (`contrast.nt_xent`). Reads what the corruption
  `e2s2` makes; `config.model.encoder_heads.corruption` is dict(kind="tag",
  classes=3).

  The release leaves shuffled tokens out of the second loss and padding in
  the second and third, by mistake; not so here. It divides the second loss by
  tokens of the target, here it is the mean over tokens of the source.

  Attributes:
    infilled, corrupted: coefficients of the two cross-entropies; those of the
      release are halves, the paper adds them up.
    detection: of the second loss; published 0.05.
    contrast: of the third; published 0.05. Where both this and `infilled` are
      0, as in the published command, a step runs the model once.
    temperature: of the third.
  """

  infilled: float = 0.5
  corrupted: float = 0.5
  detection: float = 0.05
  contrast: float = 0.05
  temperature: float = 1.0
  needs = ("target",)
  heads = ("seq2seq_lm", "corruption")
  features = (
    "corrupted_inputs",
    "tags",
    "tag_weights",
    "decoder_inputs",
    "targets",
    "weights",
  )

  def __post_init__(self):
    for name in ("infilled", "corrupted", "detection", "contrast"):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f"config.objective.{name} is {getattr(self, name)}; it is at least 0."
        )
    if not self.temperature > 0:
      raise errors.UserError(
        f"config.objective.temperature is {self.temperature}; it is above 0."
      )

  @property
  def coefficients(self):
    """Factor of each term."""
    return {
      "seq2seq": self.infilled,
      "corrupted": self.corrupted,
      "detection": self.detection,
      "contrast": self.contrast,
    }

  @property
  def passes(self) -> int:
    """How often a step runs the model."""
    return 2 if self.infilled or self.contrast else 1

  def weights(self, batch):
    """Numbers of target tokens, of source tokens and of texts."""
    target = jnp.sum(batch["weights"])
    found = {"corrupted": target, "detection": jnp.sum(batch["tag_weights"])}
    if self.passes == 2:
      found["seq2seq"] = target
      found["contrast"] = jnp.sum(_texts(batch))
    return found

  def __call__(self, model, variables, batch, key, *, train):
    keys = jax.random.split(key)
    noisy = {**batch, "inputs": batch["corrupted_inputs"]}
    second = base.apply(model, variables, noisy, keys[0], train=train)
    loss, said = _said(second, batch)
    found, metrics = _detected(base.output(second, "corruption"), batch)
    sums = {"corrupted": loss, "detection": found}
    metrics |= {"accuracy_corrupted": said["accuracy"]}
    if self.passes == 1:
      return Outcome(sums, metrics)
    first = base.apply(model, variables, batch, keys[1], train=train)
    sums["seq2seq"], said = _said(first, batch)
    views = [
      contrast.mean_pooled(out["encoder_hidden"], batch["tag_weights"])
      for out in (second, first)
    ]
    sums["contrast"] = contrast.nt_xent(*views, _texts(batch), self.temperature)
    return Outcome(sums, metrics | said)


def _said(outputs, batch):
  """Loss and accuracy of the decoder."""
  logits = base.output(outputs, "seq2seq_lm")
  return base.token_terms(logits, batch["targets"], batch["weights"])


def _detected(logits, batch):
  """Loss of the token classes, and what tells it from a majority vote."""
  tags, weights = batch["tags"], batch["tag_weights"]
  loss, metrics = base.token_terms(logits, tags, weights)
  right = (jnp.argmax(logits, axis=-1) == tags) * weights
  noise = (tags > 0) * weights
  return loss, {
    "detection_accuracy": metrics["accuracy"],
    "detection_majority": (jnp.sum(weights - noise), jnp.sum(weights)),
    "detection_recall": (jnp.sum(right * noise), jnp.sum(noise)),
  }


def _texts(batch):
  """float32 [batch], 1 where a row holds a text."""
  return jnp.max(batch["tag_weights"], axis=1)
