"""Two causal models over one row, one of which reads it backwards (ELMo)."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.context import positions_of
from jaxlm.models import _late, assembly, models
from jaxlm.models.encoder import Encoder

_TOWERS = ("forward", "backward")
# What the backward tower reads of a batch, last token first.
_TURNED = ("inputs", "segments", "types")


@models.register("bidirectional_lm", paper="arXiv:1802.05365")
class BidirectionalLM(nn.Module):
  """A forward and a backward tower that never see each other.

  The forward state of a token knows it and those before it, the backward
  state it and those behind it, inside its document. `hidden` is both, side by
  side, [batch, length, 2 * width] (`heads.bidirectional_lm.directions` takes
  them apart); a head that mixes them must not predict neighbours.

  In a config `towers` holds two specs of encoders, `forward` and `backward`,
  whose mixers look back only, such as `lstm`; embeddings and heads belong to
  the whole. Positions of the backward tower count from a document's end, and
  so do states that are captured in it.

  Attributes:
    embeddings: of both towers.
    forward: reads a row as it is.
    backward: reads it last token first.
    heads: name -> head.
  """

  # Whose states stand side by side in `hidden`.
  directions: ClassVar[int] = 2
  can: ClassVar[tuple[str, ...]] = ("neighbours", "last_states")

  embeddings: nn.Module
  forward: Encoder
  backward: Encoder
  heads: Mapping[str, nn.Module]

  def __call__(self, batch, *, train=False, capture=frozenset()):
    """Runs both towers and all heads.

    Args:
      batch: `inputs` [batch, length], and where given `segments`,
        `positions`, `types` and what heads read.
      train: dropout on.
      capture: names kept in 'intermediates'.

    Returns:
      {"hidden": [batch, length, 2 * width], head name: output}.
    """
    options = dict(train=train, capture=capture)
    there, ctx = self.forward.encode(batch, **options)
    turned = {key: batch[key][:, ::-1] for key in _TURNED if key in batch}
    turned["positions"] = positions_of(ctx.segments[:, ::-1])
    if ctx.vectors is not None:
      turned["word_vectors"] = ctx.vectors[:, ::-1]
    back, _ = self.backward.encode(turned, **options)
    hidden = jnp.concatenate([there, back[:, ::-1]], axis=-1)
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      outputs[name] = head(hidden, batch, self.embeddings, ctx)
    return outputs

  @classmethod
  def assemble(cls, spec, *, dtype=jnp.float32, **given):
    """The model of dict(kind="bidirectional_lm", towers={...}, ...).

    Raises:
      UserError: an unknown key, towers that are not these two or not of one
        width, or a mixer that looks ahead.
    """
    parts = _late.assembled(spec, _TOWERS, dtype, **given)
    for name, tower in spec["towers"].items():
      where = f"config.model.towers.{name}"
      if tower["width"] != spec["width"]:
        raise errors.UserError(
          f"{where}.width is {tower['width']} and config.model.width "
          f"{spec['width']}: both directions are of one width."
        )
      whole = {**tower, "embeddings": spec["embeddings"]}
      assembly.check_causal(whole, f"{where}.", "a direction of the model")
    return cls(embeddings=parts.embeddings, heads=parts.heads, **parts.towers)
