"""Linear attention taught by softmax attention (Hedgehog, arXiv:2402.04347)."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm import errors, paths
from jaxlm.objectives import objectives
from jaxlm.types import Outcome

_KEPT = ("attention_cross_entropy", "attention_entropy")


@objectives.register("attention_distillation", paper="arXiv:2402.04347")
@dataclasses.dataclass(frozen=True)
class AttentionDistillation:
  """Mean over tokens, heads and layers of the soft cross-entropy (eq. 6).

  -sum_j p_ij log a_ij, p the probabilities of softmax attention and a the
  weights of the linear attention that is to replace it. Layers run on the
  softmax model's hidden states without dropout; gradients reach the feature
  maps alone, so an optimizer that decays weights must leave out the rest.
  The metric `kl` is the loss less its floor, the entropy of p. Reads
  `segments` [batch, length].
  """

  features = ("segments",)
  coefficients = {}

  def weights(self, batch):
    """Number of tokens."""
    return {"attention_distillation": jnp.sum(batch["segments"] > 0)}

  def __call__(self, model, variables, batch, key, *, train):
    del key, train  # the teacher has no dropout
    _, kept = model.apply(
      variables, batch, capture=frozenset(_KEPT), mutable=["intermediates"]
    )
    loss, entropy = (_sum(kept.get("intermediates", {}), n) for n in _KEPT)
    tokens = jnp.sum(batch["segments"] > 0)
    return Outcome(
      {"attention_distillation": loss}, {"kl": (loss - entropy, tokens)}
    )


def _sum(kept, name):
  """The sum over tokens of the mean over layers, scanned or not.

  Raises:
    UserError: no layer keeps it.
  """
  leaves = [
    leaf.reshape(-1, *leaf.shape[-2:])
    for path, leaf in jax.tree_util.tree_flatten_with_path(kept)[0]
    if name in paths.name(path).split("/")
  ]
  if not leaves:
    raise errors.UserError(
      "config.objective is 'attention_distillation', but no layer imitates "
      "softmax attention: set config.model.replace=dict(mixer=dict(kind="
      "'hedgehog')), or take mixers of that kind."
    )
  return jnp.sum(jnp.mean(jnp.concatenate(leaves), axis=0))
