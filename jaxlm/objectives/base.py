"""What objectives share: applying the model and summing losses."""

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.types import Losses


def apply(model, variables, batch, key, *, train: bool):
  """Outputs of the model, with dropout from `key` when training."""
  rngs = {"dropout": key} if train else {}
  return model.apply(variables, batch, train=train, rngs=rngs)


def output(outputs, head: str):
  """The output of a head.

  Raises:
    UserError: the model has no head of this name.
  """
  if head not in outputs:
    raise lacking(head, [name for name in outputs if name != "hidden"])
  return outputs[head]


def heads_of(objective) -> tuple[str, ...]:
  """Names of the heads that an objective reads: its `heads`, or its `head`."""
  if hasattr(objective, "heads"):
    return objective.heads
  return (objective.head,) if hasattr(objective, "head") else ()


def lacking(head: str, known) -> errors.UserError:
  """What is raised where a model has no head of this name."""
  return errors.unknown(
    "config.model.heads lacks the head that the objective reads,", head, known
  )


class Recorder:
  """A model that keeps its last outputs, for an objective around another."""

  def __init__(self, model):
    self._model = model
    self.outputs = None

  def apply(self, variables, batch, **options):
    """As of the model."""
    self.outputs = self._model.apply(variables, batch, **options)
    return self.outputs


def updates(outputs):
  """Collections that the next step starts from, {} where there are none."""
  return outputs.get("updates", {})


def cross_entropy(logits, labels):
  """-log softmax(logits)[labels], float32 or wider, [...].

  A head that scored the labels itself gives `Losses`, which are taken.

  Raises:
    UserError: losses of other places than those of the labels.
  """
  if isinstance(logits, Losses):
    if logits.nats.shape != labels.shape:
      raise errors.UserError(
        f"The head gives losses {logits.nats.shape} and the objective asks for "
        f"{labels.shape}: set its field directions=2 for bidirectional_lm, "
        "which predicts both neighbours, and 1 for causal_lm."
      )
    return logits.nats
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - chosen


def token_terms(logits, labels, weights):
  """Loss sum and metrics of predicted labels [...], weighted.

  Returns:
    The weighted sum of the cross-entropy, and metrics: `accuracy`, which a
    head that gives `Losses` in training leaves to evaluations.
  """
  loss = jnp.sum(cross_entropy(logits, labels) * weights)
  if isinstance(logits, Losses):
    return loss, {}
  right = (jnp.argmax(logits, axis=-1) == labels) * weights
  return loss, {"accuracy": (jnp.sum(right), jnp.sum(weights))}
