"""TaCL: tokens told apart by a frozen teacher (Su et al., arXiv:2111.04198)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import base as shared
from jaxlm.objectives import contrast, objectives
from jaxlm.types import Outcome


@objectives.register("tacl", paper="arXiv:2111.04198")
@dataclasses.dataclass(frozen=True)
class TaCL:
  """Pre-training goes on, and states of masked tokens stay apart.

  The teacher, a frozen copy of the model that training started from, reads
  the text, the student the masked text. The student's state at a token to
  predict finds the teacher's state of it among those of its document in the
  row, by cosine over temperature. The release also counts padding among the
  negatives; not so here. Reads what `base` reads.

  Attributes:
    base: the pre-training objective, one that masks: masked_lm, or
      masked_lm_next_sentence as published.
    contrast: coefficient of the contrast.
    temperature: divides cosines.
  """

  base: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "masked_lm"}
  )
  contrast: float = 1.0
  temperature: float = 0.01
  needs = ("last_states",)  # those that are hidden are the anchors
  teacher = True  # a frozen copy of the start goes along (`recipe`)
  passes = 4 / 3  # the teacher has no backward pass

  def __post_init__(self):
    if not self.temperature > 0:
      raise errors.UserError(
        f"config.objective.temperature is {self.temperature}; it is above 0."
      )
    if "predict_ids" not in self._base.features:
      raise errors.UserError(
        f"config.objective.base is '{self.base['kind']}', which predicts no "
        "masked tokens: take masked_lm or masked_lm_next_sentence."
      )

  @property
  def _base(self):
    return objectives.build(self.base)

  @property
  def heads(self):
    """Names of the heads that are read."""
    return shared.heads_of(self._base)

  @property
  def features(self):
    """Keys of the batch that are read."""
    return self._base.features

  @property
  def coefficients(self):
    """Factor of each term."""
    return {**self._base.coefficients, "tacl": self.contrast}

  def weights(self, batch):
    """Those of the base, and the number of tokens to predict."""
    tokens = jnp.sum(batch["predict_weights"])
    return {**self._base.weights(batch), "tacl": tokens}

  def __call__(self, model, variables, batch, key, *, train):
    student = shared.Recorder(model)
    found = self._base(student, variables, batch, key, train=train)
    text = model.apply(variables, restored(batch), teacher=True)
    loss, metrics = _told_apart(
      student.outputs["hidden"], text["hidden"], batch, self.temperature
    )
    return Outcome(
      {**found.sums, "tacl": loss}, {**found.metrics, **metrics}, found.extra
    )


def restored(batch):
  """The batch with its predicted tokens in their places: the text."""
  inputs, length = batch["inputs"], batch["inputs"].shape[1]
  places = jnp.where(
    batch["predict_weights"] > 0, batch["predict_positions"], length
  )
  rows = jnp.arange(inputs.shape[0])[:, None]
  text = jnp.asarray(inputs).at[rows, places]
  return {**batch, "inputs": text.set(batch["predict_ids"], mode="drop")}


def _told_apart(student, teacher, batch, temperature):
  """Summed loss, and how often the right state is the nearest.

  Args:
    student, teacher: states [batch, length, width].
    batch: of the student.
    temperature: divides cosines.
  """
  places, weights = batch["predict_positions"], batch["predict_weights"]
  segments = batch.get("segments", jnp.ones(student.shape[:2], jnp.int32))
  anchors = jnp.take_along_axis(student, places[..., None], axis=1)
  cosines = jnp.einsum(
    "bpd,bld->bpl",
    contrast.unit(anchors),
    contrast.unit(teacher),
    precision="highest",
  )
  own = jnp.take_along_axis(segments, places, axis=1)
  others = segments[:, None, :] == own[..., None]
  logits = jnp.where(others, cosines / temperature, contrast.NEVER)
  loss, metrics = shared.token_terms(logits, places, weights)
  right = jnp.take_along_axis(cosines, places[..., None], axis=2)[..., 0]
  return loss, {
    "tacl_accuracy": metrics["accuracy"],
    "teacher_cosine": (jnp.sum(right * weights), jnp.sum(weights)),
  }
