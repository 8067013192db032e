"""Text from text: each token of the target from the source and those before
it (Raffel et al., arXiv:1910.10683)."""

import dataclasses

import jax.numpy as jnp

from jaxlm.objectives import base, objectives
from jaxlm.types import Outcome


@objectives.register("seq2seq", paper="arXiv:1910.10683")
@dataclasses.dataclass(frozen=True)
class Seq2Seq:
  """Mean cross-entropy of the target, the decoder fed with the target itself.

  Reads `decoder_inputs`, and `targets` and `weights` [batch, target length],
  which are one token ahead of them.
  """

  head = "seq2seq_lm"
  needs = ("target",)
  features = ("decoder_inputs", "targets", "weights")
  coefficients = {}

  def weights(self, batch):
    """Number of target tokens."""
    return {"seq2seq": jnp.sum(batch["weights"])}

  def __call__(self, model, variables, batch, key, *, train):
    outputs = base.apply(model, variables, batch, key, train=train)
    logits = base.output(outputs, self.head)
    loss, metrics = base.token_terms(logits, batch["targets"], batch["weights"])
    return Outcome({"seq2seq": loss}, metrics)
