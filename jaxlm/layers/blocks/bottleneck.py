"""Post-norm block that works at another width (MobileBERT and IB-BERT)."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.blocks import blocks
from jaxlm.layers.primitives import Initializer

# What queries, keys and values read.
INPUTS = ("shared", "bottleneck", "stream")


@blocks.register(
  "bottleneck",
  paper="arXiv:2004.02984",
  example={"inner": 32, "width": 32, "feedforwards": 2},
)
class Bottleneck(nn.Module):
  """Mixer and feed-forwards at width `inner`, in a stream of `width`.

    r = norm(W_in x)
    a = norm(mixer(...) + r)
    a = norm(feedforward_i(a) + a), i = 1 .. feedforwards
    x = norm(W_out a + x)

  A narrow inside is MobileBERT's bottleneck, a wide one IB-BERT's inverted
  bottleneck (section 3.2, figure 1).

  Attributes:
    mixer: moves information between tokens, at width `inner`.
    feedforward: cloned, so that each has parameters of its own.
    norm: makes a fresh norm.
    inner: width inside; assembly builds mixer and feed-forward for it.
    width: width of the stream.
    feedforwards: feed-forwards behind each mixer.
    attention_input: what the mixer reads: 'shared': norm(W_s x) for queries
      and keys, x for values; 'bottleneck': r for all (MobileBERT-tiny);
      'stream': x for all (IB-BERT).
    dropout: rate on what the block adds to the stream.
  """

  mixer: nn.Module
  feedforward: nn.Module
  norm: Callable[[], nn.Module]
  inner: int
  width: int
  feedforwards: int = 4
  attention_input: str = "shared"
  dropout: float = 0.0
  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  def setup(self):
    self._check()
    self.input = self._dense(self.inner, ("embed", "mlp"))
    self.input_norm = self.norm()
    if self.attention_input == "shared":
      self.shared = self._dense(self.inner, ("embed", "mlp"))
      self.shared_norm = self.norm()
    self.mixer_norm = self.norm()
    count = range(self.feedforwards)
    self.inner_feedforwards = [self._feedforward() for _ in count]
    self.feedforward_norms = [self.norm() for _ in count]
    self.output = self._dense(self.width, ("mlp", "embed"))
    self.output_norm = self.norm()
    self.drop = primitives.Dropout(self.dropout)

  def __call__(self, x, ctx):
    narrow = self.input_norm(self.input(x))
    a = self.mixer_norm(self._mixed(x, narrow, ctx) + narrow)
    for feedforward, norm in zip(
      self.inner_feedforwards, self.feedforward_norms, strict=True
    ):
      a = norm(feedforward(a, ctx) + a)
    y = self.drop(self.output(a), deterministic=not ctx.train)
    return self.output_norm(y + x)

  def _mixed(self, x, narrow, ctx):
    if self.attention_input == "shared":
      return self.mixer(self.shared_norm(self.shared(x)), ctx, values=x)
    return self.mixer(
      narrow if self.attention_input == "bottleneck" else x, ctx
    )

  def _dense(self, features, axes):
    return primitives.dense_of(self, features, axes, self.initializer.kernel())

  def _feedforward(self):
    return self.feedforward.clone(parent=None, _deep_clone=True)

  def _check(self):
    if self.attention_input not in INPUTS:
      raise errors.unknown(
        "block 'bottleneck' knows no attention_input",
        self.attention_input,
        INPUTS,
      )
    if self.feedforwards < 1:
      raise errors.UserError(
        f"block 'bottleneck': feedforwards is {self.feedforwards}; it is 1 or "
        "more."
      )
    separate = getattr(self.mixer, "separate_values", False)
    if self.attention_input != "bottleneck" and not separate:
      raise errors.UserError(
        f"block 'bottleneck' with attention_input='{self.attention_input}' "
        "gives the mixer inputs of two widths, which a "
        f"{type(self.mixer).__name__} does not take: set "
        "attention_input='bottleneck', or take kind='attention'."
      )
