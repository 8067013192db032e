"""What objectives of continuous outputs share: vectors to come close to."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm import context, errors
from jaxlm.objectives import base
from jaxlm.types import Outcome

_TINY = 1e-12  # added to squared norms, whose roots have no slope at 0


@dataclasses.dataclass(frozen=True)
class Continuous:
  """A subclass is a frozen dataclass that says its `loss`.

  Reads `inputs`, `targets`, `weights` [batch, length] and `word_vectors`
  [batch, length + 1, width], unit vectors of a row's tokens, the last target's
  included. They are data: nothing is learned of them.

  Metrics: `cosine`, the mean of predictions with their vectors; in evaluations
  also `nearest_in_row`, how often a prediction is nearer to its word than to
  any other of its row. There are no probabilities, so no perplexity;
  `jaxlm.evaluation.neighbours` looks through the whole vocabulary.

  Attributes:
    directions: 1 for the next word; 2 for both neighbours.
  """

  directions: int = 1

  head = "continuous"
  features = ("targets", "weights", "word_vectors")
  coefficients = {}

  @property
  def needs(self):
    """What the model must be able to do."""
    return ("next_token",) if self.directions == 1 else ("neighbours",)

  def weights(self, batch):
    """Number of words to predict."""
    weights = context.neighbours(batch, self.directions)[1]
    return {"continuous": jnp.sum(weights)}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    found = base.output(outputs, self.head)
    wanted = vectors(batch, self.directions)
    if found.shape != wanted.shape:
      raise errors.UserError(
        f"The head '{self.head}' gives {found.shape} and the objective wants "
        f"{wanted.shape}: config.objective.directions and "
        f"config.model.heads.{self.head}.directions must be the same, and "
        "vector_width that of config.data.vectors."
      )
    weights = context.neighbours(batch, self.directions)[1]
    loss = jnp.sum(self.loss(found, wanted, batch) * weights)
    near = cosine(found, wanted)
    metrics = {"cosine": (jnp.sum(near * weights), jnp.sum(weights))}
    if not train:
      best = rivals(found, batch, self.directions)[0]
      right = (near > best) * weights
      metrics["nearest_in_row"] = (jnp.sum(right), jnp.sum(weights))
    return Outcome({"continuous": loss}, metrics)

  def loss(self, found, wanted, batch):
    """Costs [batch, length, (2)] of vectors [batch, length, (2,) width]."""
    raise NotImplementedError


def vectors(batch, directions: int):
  """The unit vector of what each place is to predict.

  Returns:
    float32 [batch, length, width], or [batch, length, 2, width] for both
    neighbours.
  """
  held = jax.lax.stop_gradient(batch["word_vectors"])
  ahead = held[:, 1:]
  if directions == 1:
    return ahead
  return jnp.stack([ahead, context.behind(held[:, :-1])], axis=2)


def cosine(a, b):
  """Cosines of vectors [..., width], float32; 0 with a zero vector."""
  return jnp.sum(unit(a) * unit(b), axis=-1)


def rivals(found, batch, directions: int):
  """The nearest of the row's other words to each prediction.

  Args:
    found: predictions [batch, length, (2,) width].
    batch: with `word_vectors`.
    directions: 1, or 2.

  Returns:
    cosines with the best other word, -1 where there is none, and with every
    token of the row where it is another word, -1 elsewhere:
    [batch, length, (2)] and [batch, length, (2,) length + 1].
  """
  held = jax.lax.stop_gradient(batch["word_vectors"])
  ids = jnp.concatenate([batch["inputs"], batch["targets"][:, -1:]], axis=1)
  real = jnp.any(held != 0.0, axis=-1)
  labels = context.neighbours(batch, directions)[0]
  # [batch, 1, (1,) length + 1], beside the labels' [batch, length, (2,) 1].
  beside = lambda x: jnp.expand_dims(x, tuple(range(1, labels.ndim)))
  other = beside(real) & (beside(ids) != labels[..., None])
  near = jnp.einsum("bl...d,bmd->bl...m", unit(found), unit(held))
  near = jnp.where(other, near, -1.0)
  return jnp.max(near, axis=-1), near


def unit(x):
  """Vectors [..., width] of length 1, float32; zero vectors stay."""
  return x * jax.lax.rsqrt(_squares(x) + _TINY)[..., None]


def _squares(x):
  return jnp.sum(jnp.square(x), axis=-1)
