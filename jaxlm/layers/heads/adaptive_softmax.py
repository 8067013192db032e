"""Adaptive softmax: frequent tokens first, rare ones in cheap tails.

Grave et al., arXiv:1609.04309, as `torch.nn.AdaptiveLogSoftmaxWithLoss` has it.
ELMO-C's code (uclanlp/ELMO-C) has biases and a first tail as wide as the
states: `output_bias=True, first_power=0`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.heads import base, heads
from jaxlm.layers.heads._many_words import ManyWords


@heads.register(
  "adaptive_softmax",
  paper="arXiv:1609.04309",
  example={"cutoffs": (16, 40), "divisor": 2.0},
)
class AdaptiveSoftmaxHead(ManyWords):
  """log p of frequent tokens, or of a tail and of a token inside it.

  The head scores the first cutoffs[0] ids and one entry a tail; tail i, the
  ids from cutoffs[i] to the next cutoff, has states narrowed by
  divisor^(i + first_power). Ids must fall in frequency (tokenizer 'word').

  In training, tails see the targets that they hold, in passes of a static
  number of places, `capacity` of all: a pass without targets is skipped, so
  any batch is exact, and common ones cost little.

  Attributes:
    cutoffs: ids at which tails begin, rising.
    divisor: by which tails are narrower than what comes before.
    first_power: of the divisor, for the first tail.
    capacity: share of all places that one pass of a tail holds.
  """

  cutoffs: Sequence[int] = (2_000, 10_000)
  divisor: float = 4.0
  first_power: int = 1
  capacity: float = 0.125

  def weights(self, width, vocab):
    """(table, bias) of the head; (narrowing, table, bias) of tails; borders.

    Raises:
      UserError: cutoffs that do not rise within the vocabulary.
    """
    borders = edges(self.cutoffs, vocab)
    rows = borders[0] + len(borders) - 1
    head = base.own_rows(self, "head_table", rows, width)
    tails = []
    for index, (low, high) in enumerate(zip(borders, borders[1:])):
      narrow = tail_width(width, self.divisor, index + self.first_power)
      kernel = self.param(
        f"tail_{index}_kernel",
        primitives.partitioned(self.initializer.kernel(), ("embed", "mlp")),
        (width, narrow),
        self.param_dtype,
      )
      table = base.own_rows(self, f"tail_{index}_table", high - low, narrow)
      bias = base.own_bias(self, f"tail_{index}_bias", high - low)
      tails.append((kernel, table, bias))
    return (head, base.own_bias(self, "head_bias", rows)), tails, borders

  def whole(self, states, weights):
    """log p of every token, [..., vocab]."""
    head, tails, borders = weights
    first = self._first(states, *head)
    parts = [first[..., : borders[0]]]
    for index, tail in enumerate(tails):
      inside = jax.nn.log_softmax(self._scores(states, *tail), axis=-1)
      parts.append(first[..., borders[0] + index, None] + inside)
    return jnp.concatenate(parts, axis=-1)

  def nats(self, states, labels, weights):
    """-log p of labels, [n]."""
    head, tails, borders = weights
    first = base.flat(self._first(states, *head))
    states, labels = base.flat(states), labels.reshape(-1)
    entry = labels
    for index, low in enumerate(borders[:-1]):
      entry = jnp.where(labels >= low, borders[0] + index, entry)
    nats = -jnp.take_along_axis(first, entry[:, None], axis=-1)[:, 0]
    for tail, low, high in zip(tails, borders, borders[1:]):
      inside = (labels >= low) & (labels < high)

      def cost(states, labels, tail=tail, low=low, high=high):
        logits = self._scores(states, *tail)
        local = jnp.clip(labels - low, 0, high - low - 1)[:, None]
        chosen = jnp.take_along_axis(logits, local, axis=-1)[:, 0]
        return jax.nn.logsumexp(logits, axis=-1) - chosen

      nats += of_some(cost, inside, states, labels, share=self.capacity)
    return nats

  def _first(self, states, table, bias):
    """log p of frequent tokens and of tails."""
    scores = base.biased(base.scores(self, states, table), bias)
    return jax.nn.log_softmax(scores, axis=-1)

  def _scores(self, states, kernel, table, bias):
    narrow = states.astype(self.dtype) @ kernel.astype(self.dtype)
    return base.biased(base.scores(self, narrow, table), bias)

  @staticmethod
  def met(head, sizes, vocab: int) -> float:
    """Weights of `sizes` (path -> number) that a place meets in training.

    One pass of each tail is counted.
    """
    del vocab
    share = head.get("capacity", AdaptiveSoftmaxHead.capacity)
    part = lambda path: 1.0 if path.startswith("head_") else share
    met = sum(part(path) * n for path, n in sizes.items())
    return head.get("directions", 1) * met


def edges(cutoffs: Sequence[int], vocab: int) -> tuple[int, ...]:
  """Where tails begin, and the end of the vocabulary.

  Raises:
    UserError: they do not rise, or pass the vocabulary.
  """
  found = (*cutoffs, vocab)
  if not cutoffs or any(a >= b for a, b in zip((0, *found), found)):
    raise errors.UserError(
      f"head 'adaptive_softmax' has cutoffs={tuple(cutoffs)}; they are ids "
      f"that rise from 1 to below the vocabulary's {vocab} tokens, such as "
      f"({max(vocab // 20, 1)}, {max(vocab // 5, 2)})."
    )
  return found


def tail_width(width: int, divisor: float, power: int) -> int:
  """Columns of a tail; at least one."""
  return max(1, int(width // divisor**power))


def of_some(cost, chosen, states, labels, *, share: float):
  """`cost` of the chosen places, 0 of the others.

  Args:
    cost: (states [k, width], labels [k]) -> float32 [k].
    chosen: bool [n].
    states: [n, width].
    labels: int32 [n].
    share: of n, that one pass holds. As many passes run as are needed; their
      intermediates are computed again in the backward pass, for one at a time
      to be in memory.

  Returns:
    float32 [n].
  """
  count = chosen.shape[0]
  rows = min(max(1, math.ceil(share * count)), count)
  passes = -(-count // rows)
  order = jnp.argsort(~chosen, stable=True)  # chosen ones first
  order = jnp.pad(order, (0, passes * rows - count), constant_values=count)
  number = jnp.sum(chosen)
  wide = jnp.promote_types(states.dtype, jnp.float32)

  def some(places):
    take = lambda x: x.at[places].get(mode="fill", fill_value=0)
    return cost(take(states), take(labels)).astype(wide)

  run = jax.checkpoint(some, prevent_cse=False)  # it is inside a loop

  def one(_, part):
    start, places = part
    skip = lambda places: jnp.zeros(places.shape, wide)
    found = jax.lax.cond(start < number, run, skip, places)
    real = start + jnp.arange(rows) < number
    return None, jnp.where(real, found, 0.0)

  starts = rows * jnp.arange(passes)
  _, found = jax.lax.scan(one, None, (starts, order.reshape(passes, rows)))
  return jnp.zeros((count,), wide).at[order].set(found.reshape(-1), mode="drop")
