"""An encoder that never sees [MASK]: masked tokens join late (3ML)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.layers.heads.masked_lm import MaskedLMHead
from jaxlm.layers.positions.base import Positions
from jaxlm.layers.primitives import Initializer
from jaxlm.models import _late, _places, models
from jaxlm.models.encoder import Encoder


class Blank(nn.Module):
  """One learned row that stands for every token that is not there.

  Attributes:
    initializer: how it starts.
  """

  initializer: Initializer = Initializer()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, rows):
    """As many rows as `rows` [batch, length, features], all the same."""
    init = primitives.partitioned(self.initializer.kernel(), ("embed",))
    row = self.param("row", init, rows.shape[-1:], self.param_dtype)
    return jnp.broadcast_to(row.astype(self.dtype), rows.shape)


@models.register("visible_encoder", paper="arXiv:2211.04898")
class VisibleEncoder(nn.Module):
  """The encoder runs on visible tokens; a small decoder predicts the others.

  Mask more and mask later (3ML). The encoder reads the tokens at
  `visible_positions`, positions added before the others are taken out. At the
  places of the others stand one learned row plus their positions, made ready
  as rows of tokens are. Then the decoder, by the layers of its config:

  - without `cross` it reads the whole row (3ML_self);
  - with `cross` it reads the places to predict alone, which see each other
    and, by `cross`, the encoder's states (3ML_cross).

  The masked-LM head reads the decoder; `hidden` and other heads read the
  encoder, which is what is fine-tuned and exported. Without
  `visible_positions` in the batch all tokens are visible.

  In a config `towers` holds the two specs, `encoder` and `decoder`, without
  embeddings and heads, which belong to the whole. Positions of the encoder
  say where a token is; those of the decoder are commonly none, or those on
  scores again.

  Attributes:
    embeddings: of the encoder and of the output.
    encoder: reads visible tokens.
    decoder: reads states.
    heads: name -> head.
    blank: the row of tokens that are not there.
    narrowing: from the encoder's width to the decoder's, or None.
    crosses: whether the decoder's layers read the encoder.
  """

  can: ClassVar[tuple[str, ...]] = ()  # some tokens have no last state

  embeddings: nn.Module
  encoder: Encoder
  decoder: Encoder
  heads: Mapping[str, nn.Module]
  blank: Blank
  narrowing: nn.Module | None = None
  crosses: bool = False

  # What it reads of a batch beside what all models do, with the setting that
  # makes data give it.
  features = {
    "visible_positions": "config.data.corruption.kind='visible_masking'"
  }

  def __call__(self, batch, *, train=False, capture=frozenset()):
    """Runs both towers and all heads.

    Args:
      batch: also `visible_positions` [batch, v] int32, ascending, the
        length of the row in slots that are empty.
      train: dropout on.
      capture: names kept in 'intermediates'.

    Returns:
      {"hidden": [batch, length, width], head name: output}; `hidden` holds
      the blank row where a token is not there.
    """
    ctx = self.encoder.context(batch, train=train, capture=capture)
    hidden, memory, seen = self._encoded(batch, ctx)
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      if not isinstance(head, MaskedLMHead):
        outputs[name] = head(hidden, batch, self.embeddings, ctx)
        continue
      own = self.decoder.context(batch, train=train, capture=capture)
      own = own.replace(memory=memory, memory_segments=seen)
      outputs[name] = self._predicted(head, hidden, batch, own)
    return outputs

  def _encoded(self, batch, ctx):
    """States of whole rows, of visible tokens, and segments of the latter."""
    encoder = self.encoder
    rows = encoder.rows(batch, ctx)
    blank = encoder.positions.at_input(self.blank(rows), ctx)
    if "visible_positions" not in batch:
      states = encoder.through(encoder.enter(rows, ctx), ctx)
      return states, states, ctx.segments
    places = batch["visible_positions"]
    seen = _places.context(ctx, places)
    states = encoder.enter(_places.gather(rows, places), seen)
    states = encoder.through(states, seen)
    hidden = _places.scatter(states, places, encoder.enter(blank, ctx))
    return hidden, states, seen.segments

  def _predicted(self, head, hidden, batch, ctx):
    """The masked-LM head's logits, from the decoder."""
    x = hidden if self.narrowing is None else self.narrowing(hidden)
    if self.crosses and "predict_positions" in batch:
      x, ctx = _late.chosen(x, ctx, batch)
      batch = _late.without_places(batch)
    return head(self.decoder.read(x, ctx), batch, self.embeddings, ctx)

  @classmethod
  def assemble(cls, spec: Mapping[str, Any], *, dtype=jnp.float32, **given):
    """The model of dict(kind="visible_encoder", towers={...}, ...).

    Raises:
      UserError: an unknown key, towers that are not these two, or parts that
        cannot run on chosen tokens.
    """
    parts = _late.assembled(spec, ("encoder", "decoder"), dtype, **given)
    given = parts.given
    made = cls(
      embeddings=parts.embeddings,
      heads=parts.heads,
      crosses=_late.crosses(spec["towers"]["decoder"]),
      blank=Blank(given["initializer"], dtype, given["param_dtype"]),
      narrowing=_late.narrowing(spec, "encoder", "decoder", given),
      **parts.towers,
    )
    _places.check(made.encoder, "config.model.towers.encoder")
    if made.crosses:
      _check_crossing(made)
    return made

  @staticmethod
  def exported(spec: Mapping[str, Any], params):
    """The spec and parameters of the encoder, without masked-LM heads."""
    whole = nn.meta.unbox(params)
    heads = {k: v for k, v in spec["heads"].items() if v["kind"] != "masked_lm"}
    kept = {f"heads_{name}": whole[f"heads_{name}"] for name in heads}
    own = {"embeddings": spec["embeddings"], "heads": heads}
    if "vocab_size" in spec:
      own["vocab_size"] = spec["vocab_size"]
    body = {"embeddings": whole["embeddings"], **whole["encoder"], **kept}
    return {**spec["towers"]["encoder"], **own}, body

  @staticmethod
  def lengths(spec: Mapping[str, Any], batch_spec) -> dict[str, Any]:
    """Tokens a row of each tower, for FLOPs; see `jaxlm.flops`."""
    seen = _late.row_of(batch_spec, "visible_positions")
    crosses = _late.crosses(spec["towers"]["decoder"])
    key = "predict_positions" if crosses else "inputs"
    read = _late.row_of(batch_spec, key)
    return {
      "encoder": dict(row=seen),
      "decoder": dict(row=read, source=seen),
    }


def _check_crossing(model) -> None:
  _places.check(model.decoder, "config.model.towers.decoder")
  if type(model.encoder.positions).at_input is Positions.at_input:
    raise errors.UserError(
      "The layers of config.model.towers.decoder have 'cross', by which places "
      "to predict look at the encoder; these are told apart by what the "
      "encoder's positions add to its input, but those of "
      "config.model.towers.encoder add nothing: take kind='learned' or "
      "'sinusoidal', or leave 'cross' out."
    )
