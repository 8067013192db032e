"""Replaced token detection (Clark et al., arXiv:2003.10555)."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome

# What `disallow_correct` takes off a logit, as the released code does.
_NEVER = 1000.0


@objectives.register("replaced_token_detection", paper="arXiv:2003.10555")
@dataclasses.dataclass(frozen=True)
class ReplacedTokenDetection:
  """A generator fills masks; a discriminator finds what it got wrong.

  The loss is masked LM, a mean over the tokens to predict, plus `weight`
  times the binary cross-entropy of the discriminator, a mean over all real
  tokens. All tokens to predict are replaced by samples of the generator; a
  sample that is the text's own token counts as real. No gradient passes
  through the sampling. Reads what masked LM reads; all tokens that the data
  hide must be predicted, or the discriminator would see them hidden.

  Attributes:
    weight: of the second term, the paper's lambda.
    temperature: of the sampling.
    disallow_correct: never sample the text's own token.
  """

  weight: float = 50.0
  temperature: float = 1.0
  disallow_correct: bool = False
  needs = ("towers",)
  heads = ("masked_lm", "replaced_token")
  keeps_updates = True
  features = ("predict_positions", "predict_ids", "predict_weights")

  def __post_init__(self):
    if not self.temperature > 0.0:
      raise errors.UserError(
        f"config.objective.temperature is {self.temperature}; it is above 0."
      )

  @property
  def coefficients(self):
    """Factor of each term."""
    return {"replaced_token": self.weight}

  def weights(self, batch):
    """Numbers of tokens to predict and of real tokens."""
    return {
      "masked_lm": jnp.sum(batch["predict_weights"]),
      "replaced_token": jnp.sum(_real(batch)),
    }

  def __call__(self, model, variables, batch, key, *, train):
    keys = jax.random.split(key, 3)

    def run(tower, batch, key):
      rngs = {"dropout": key} if train else {}
      return model.apply(variables, batch, tower=tower, train=train, rngs=rngs)

    filled = run("generator", batch, keys[0])
    logits = base.output(filled, "masked_lm")
    loss, metrics = base.token_terms(
      logits, batch["predict_ids"], batch["predict_weights"]
    )
    tokens, replaced = self.replace(logits, batch, keys[1])
    shown = {**batch, "inputs": tokens}
    judged = run("discriminator", shown, keys[2])
    scores = base.output(judged, "replaced_token")[..., 0]
    judgement, more = _judged(scores, replaced, _real(batch))
    metrics = {"generator_accuracy": metrics["accuracy"], **more}
    sums = {"masked_lm": loss, "replaced_token": judgement}
    return Outcome(sums, metrics, base.updates(judged))

  def replace(self, logits, batch, key):
    """What the discriminator reads.

    Args:
      logits: [batch, p, vocab], of the generator.
      batch: what masked LM reads.
      key: of the sampling.

    Returns:
      Tokens [batch, length] int32, the text's own but where a sample stands,
      and whether a token is another than the text's, bool [batch, length].
    """
    own = batch["predict_ids"]
    logits = jax.lax.stop_gradient(logits) / self.temperature
    if self.disallow_correct:
      logits -= _NEVER * jax.nn.one_hot(own, logits.shape[-1])
    sampled = jax.random.categorical(key, logits, axis=-1).astype(own.dtype)
    text = _put(batch["inputs"], own, batch)
    tokens = _put(text, sampled, batch)
    return tokens, tokens != text


def _put(tokens, new, batch):
  """tokens [batch, length] with `new` [batch, p] where to predict."""
  rows = jnp.arange(tokens.shape[0])[:, None]
  # Padded predictions go nowhere: behind the row's end.
  places = jnp.where(
    batch["predict_weights"] > 0, batch["predict_positions"], tokens.shape[1]
  )
  return jnp.asarray(tokens).at[rows, places].set(new, mode="drop")


def _real(batch):
  """float32 [batch, length], 1 at real tokens."""
  if "segments" not in batch:
    return jnp.ones(batch["inputs"].shape, jnp.float32)
  return (batch["segments"] > 0).astype(jnp.float32)


def _judged(scores, replaced, real):
  """Summed loss of the discriminator, and what tells of a collapse."""
  # -log sigmoid of the score's right sign, without overflow.
  losses = jax.nn.softplus(jnp.where(replaced, -scores, scores))
  said = scores > 0
  count = lambda found: jnp.sum(found * real)
  metrics = {
    "discriminator_accuracy": (count(said == replaced), jnp.sum(real)),
    "replaced_rate": (count(replaced), jnp.sum(real)),
    "replaced_recall": (count(said & replaced), count(replaced)),
    "replaced_precision": (count(said & replaced), count(said)),
  }
  return jnp.sum(losses * real), metrics
