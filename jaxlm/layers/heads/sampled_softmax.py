"""Softmax over the target and a sample of other tokens (ELMo's output).

Jean et al., arXiv:1412.2007, with the log-uniform sampler of Bengio and
Senécal: tokens are drawn by their rank, without repeats, and a logit loses the
logarithm of how often it was to be expected in the sample.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.layers.heads import base, heads
from jaxlm.layers.heads._many_words import ManyWords

_SPARE = 6.0  # standard deviations of distinct tokens that tries leave room for


@heads.register("sampled_softmax", paper="arXiv:1412.2007")
class SampledSoftmaxHead(ManyWords):
  """h E^T + b over the target and `samples` others in training.

  All targets of a batch (of a microbatch) share one sample; a target that
  is in it counts once. Ids must fall in frequency (tokenizer 'word').

  Attributes:
    samples: distinct tokens that are drawn, 8,192 for ELMo.
  """

  samples: int = 8192
  output_bias: bool = True

  def weights(self, width, vocab):
    """The table [vocab, width] and its bias [vocab]."""
    table = base.own_rows(self, "table", vocab, width)
    return table, base.own_bias(self, "output_bias", vocab)

  def whole(self, states, weights):
    """Logits [..., vocab]."""
    table, bias = weights
    return base.biased(base.scores(self, states, table), bias)

  def nats(self, states, labels, weights):
    """As of `losses`, among a sample drawn by the stream 'dropout'.

    Raises:
      UserError: as many samples as tokens.
    """
    table, bias = weights
    vocab = len(table)
    ids, filled, tries = draw(self.make_rng("dropout"), self.samples, vocab)
    return losses(
      base.flat(states).astype(self.dtype),
      labels.reshape(-1),
      table.astype(self.dtype),
      bias,
      ids,
      log_expected(jnp.arange(vocab), tries, vocab),
      filled,
    )

  @staticmethod
  def met(head, sizes, vocab: int) -> float:
    """Weights of `sizes` (path -> number) that a place meets in training."""
    rows = head.get("samples", SampledSoftmaxHead.samples) + 1
    return head.get("directions", 1) * rows * sum(sizes.values()) / vocab


def losses(states, labels, table, bias, ids, log_counts, filled=True):
  """-log of the target's share among itself and a sample.

  Args:
    states: [n, width].
    labels: int32 [n].
    table: [vocab, width].
    bias: [vocab].
    ids: int32 [samples], the sample, which all places share.
    log_counts: float32 [vocab], logarithms of how often each token is
      expected in a sample.
    filled: bool [samples], or all: slots that hold a token.

  Returns:
    float32 [n].
  """
  wide = jnp.promote_types(states.dtype, jnp.float32)
  shift = bias.astype(wide) - log_counts
  dots = jnp.einsum(
    "nd,nd->n", states, table[labels], preferred_element_type=wide
  )
  true = dots + shift[labels]
  others = jnp.einsum(
    "nd,sd->ns", states, table[ids], preferred_element_type=wide
  )
  others = others + shift[ids][None]
  empty = ~jnp.broadcast_to(filled, ids.shape)
  hit = (ids[None] == labels[:, None]) | empty[None]
  others = jnp.where(hit, jnp.finfo(wide).min, others)
  every = jnp.concatenate([true[:, None], others], axis=-1)
  return jax.nn.logsumexp(every, axis=-1) - true


def draw(key, samples: int, vocab: int):
  """Distinct tokens, drawn log-uniformly by id until there are enough.

  Args:
    key: of the numbers.
    samples: how many.
    vocab: tokens; the first is the most frequent.

  Returns:
    ids int32 [samples]; bool [samples], which slots are filled: all, but with
    a chance below 1e-8; and how many tries that took, an int32 scalar.

  Raises:
    UserError: not fewer samples than tokens.
  """
  if not 0 < samples < vocab:
    raise errors.UserError(
      f"head 'sampled_softmax' draws samples={samples} of {vocab} tokens: take "
      "fewer, or the whole softmax (causal_lm, bidirectional_lm)."
    )
  most = tries_for(samples, vocab)
  uniform = jax.random.uniform(key, (most,))
  drawn = jnp.floor(jnp.exp(uniform * math.log(vocab + 1))) - 1
  drawn = jnp.clip(drawn.astype(jnp.int32), 0, vocab - 1)
  order = jnp.argsort(drawn, stable=True)
  sorted_ = drawn[order]
  again = jnp.pad(sorted_[1:] == sorted_[:-1], (1, 0))
  new = jnp.zeros((most,), bool).at[order].set(~again)
  place = jnp.cumsum(new) - 1  # among the distinct ones
  slot = jnp.where(new, place, samples)
  ids = jnp.zeros((samples,), jnp.int32).at[slot].set(drawn, mode="drop")
  tries = jnp.minimum(jnp.sum(place < samples - 1) + 1, most)
  return ids, jnp.arange(samples) <= place[-1], tries


def probabilities(ids, vocab: int):
  """Chance of each id in one try, float32: ln((k + 2)/(k + 1)) / ln(V + 1)."""
  return jnp.log1p(1.0 / (ids + 1.0)) / math.log(vocab + 1)


def log_expected(ids, tries, vocab: int):
  """log(1 - (1 - P)^tries): how often an id is among distinct ones drawn."""
  none = tries * jnp.log1p(-probabilities(ids, vocab))
  return jnp.log(-jnp.expm1(none))


def tries_for(samples: int, vocab: int) -> int:
  """Tries that give so many distinct tokens, but for a chance below 1e-8.

  The number of distinct ones varies less than by the root of its mean.
  """
  chance = np.log1p(1.0 / (np.arange(vocab) + 1.0)) / math.log(vocab + 1)
  rest = np.log1p(-chance)
  wanted = min(samples + _SPARE * math.sqrt(samples), vocab - 0.5)
  tries = samples
  while np.sum(-np.expm1(tries * rest)) < wanted:
    tries = math.ceil(1.25 * tries)
  return tries
