"""NarrowBERT, SparseQueries: late layers ask from a few places only."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers.mixers import mixers
from jaxlm.models import _late, _places, _reading, assembly, models
from jaxlm.models.encoder import Encoder


@models.register("narrow_encoder", paper="arXiv:2301.04761")
class NarrowEncoder(nn.Module):
  """Some layers on whole rows, then layers on the places that are read.

  The tower `encoder` runs as ever. Layers of the tower `narrow` run at the
  places that heads read alone: those to predict, or [CLS] of a sentence; their
  mixer is `cross_attention`, whose keys and values are the encoder's states in
  every layer, by maps of its own. As the release does, keys are those of all
  tokens and never change. Where a head reads whole rows, so do narrow layers.

  In a config `towers` holds the two specs, without embeddings and heads,
  which belong to the whole. All of it is fine-tuned.

  Attributes:
    embeddings: of the encoder and of the output.
    encoder: reads tokens.
    narrow: reads states.
    heads: name -> head.
  """

  can: ClassVar[tuple[str, ...]] = ()  # few places have a last state
  no_export = (
    "its late layers ask from a few places only (NarrowBERT), which no class "
    "of transformers computes."
  )

  embeddings: nn.Module
  encoder: Encoder
  narrow: Encoder
  heads: Mapping[str, nn.Module]

  def __call__(self, batch, *, train=False, capture=frozenset()):
    """Runs both towers and all heads.

    Args:
      batch: see docs/design.md.
      train: dropout on.
      capture: names kept in 'intermediates'.

    Returns:
      {"hidden": [batch, length, width], head name: output}; `hidden` holds
      the encoder's states where no head reads.
    """
    options = dict(train=train, capture=capture)
    states, ctx = self.encoder.encode(batch, **options)
    own = self.narrow.context(batch, **options)
    own = own.replace(memory=states, memory_segments=ctx.segments)
    read = _reading.reading(self.heads, batch)
    if read is None:
      hidden = found = self.narrow.read(states, own)
    else:
      x, own = read.gathered(states, own)
      found, batch = self.narrow.read(x, own), read.batch
      hidden = read.scattered(found, states)
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      outputs[name] = head(found, batch, self.embeddings, own)
    return outputs

  @classmethod
  def assemble(cls, spec: Mapping[str, Any], *, dtype=jnp.float32, **given):
    """The model of dict(kind="narrow_encoder", towers={...}, ...).

    Raises:
      UserError: an unknown key, towers that are not these two, or parts that
        do not fit.
    """
    parts = _late.assembled(spec, ("encoder", "narrow"), dtype, **given)
    _check(spec["towers"])
    made = cls(embeddings=parts.embeddings, heads=parts.heads, **parts.towers)
    _places.check(made.narrow, "config.model.towers.narrow")
    return made

  @staticmethod
  def lengths(spec: Mapping[str, Any], batch_spec) -> dict[str, Any]:
    """Tokens a row of each tower, for FLOPs; see `jaxlm.flops`."""
    row = batch_spec["inputs"].shape[1]
    narrow = dict(row=_reading.count(spec, batch_spec), source=row)
    return {"encoder": dict(row=row), "narrow": narrow}


def _check(towers) -> None:
  """Raises UserError for narrow layers of another width or without keys."""
  widths = {name: tower["width"] for name, tower in towers.items()}
  if len(set(widths.values())) > 1:
    raise errors.UserError(
      f"config.model.towers.narrow.width is {widths['narrow']} and that of the "
      f"encoder {widths['encoder']}; they are the same, as one goes on with "
      "the states of the other."
    )
  tower = towers["narrow"]
  for name in assembly.layer_order(tower):
    layer = tower["layers"][name]
    kind = mixers.check(layer["mixer"])
    reads = getattr(mixers.entry(kind).build, "reads_memory", False)
    if not reads and "cross" not in layer:
      raise errors.UserError(
        f"config.model.towers.narrow.layers.{name}.mixer is '{kind}', by which "
        "places see each other but nothing of the row: take "
        "kind='cross_attention'."
      )
