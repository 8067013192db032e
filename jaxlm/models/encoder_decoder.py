"""An encoder, and a decoder that reads its states (T5, BART)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import primitives
from jaxlm.models import _late, models
from jaxlm.models.decoder import Decoder
from jaxlm.models.encoder import Encoder

_TOWERS = ("encoder", "decoder")
_KEYS = (
  "kind",
  "width",
  "vocab_size",
  "embeddings",
  "towers",
  "heads",
  "encoder_heads",
  "norm",
  "dropout",
  "output_dropout",
  "initializer",
)
_SHARED = ("embeddings", "heads")


@models.register("encoder_decoder", paper="arXiv:1910.10683, arXiv:1910.13461")
class EncoderDecoder(nn.Module):
  """Two towers over one token table; heads read the decoder.

  In a config `towers` holds the two specs, `encoder` and `decoder`, without
  embeddings and heads, which belong to the whole. Layers of the decoder have
  a fourth slot, `cross`, and a block that knows it. Heads that read the
  encoder are given as `encoder_heads`; they train it, and exports leave them
  out.

  Attributes:
    embeddings: of both towers.
    encoder: reads `inputs`.
    decoder: reads `decoder_inputs` and the encoder's states.
    heads: name -> head.
    on_encoder: names of the heads that read the encoder.
    output_dropout: rate on the states of both towers (T5).
  """

  can: ClassVar[tuple[str, ...]] = ("target", "last_states")

  embeddings: nn.Module
  encoder: Encoder
  decoder: Decoder
  heads: Mapping[str, nn.Module]
  on_encoder: tuple[str, ...] = ()
  output_dropout: float = 0.0

  def setup(self):
    self.drop = primitives.Dropout(self.output_dropout)

  def __call__(
    self, batch, *, train=False, capture=frozenset(), cache_length=0
  ):
    """Runs both towers and all heads.

    Args:
      batch: `inputs` [batch, source], `decoder_inputs` [batch, target]
        (`inputs` where absent), where given the `segments` and `positions` of
        either, and what heads read. A target token sees source tokens of its
        own segment.
      train: dropout on.
      capture: names kept in 'intermediates'.
      cache_length: keys and values kept for decoding, 0 for none.

    Returns:
      {"hidden": [batch, target, width], "encoder_hidden": [batch, source,
      width], head name: output}.
    """
    options = dict(train=train, capture=capture)
    states, ctx = self._encoded(batch, **options)
    outputs = self.decode(
      {**batch, "memory": states, "memory_segments": ctx.segments},
      cache_length=cache_length,
      **options,
    )
    for name in self.on_encoder:
      head = self.heads[name]
      outputs[name] = head(states, batch, self.embeddings, ctx)
    return {**outputs, "encoder_hidden": states}

  def encode(self, batch, *, train=False, capture=frozenset()):
    """The encoder's states, as `decode` takes them.

    Returns:
      {"memory": [batch, source, width], "memory_segments": [batch, source]}.
    """
    states, ctx = self._encoded(batch, train=train, capture=capture)
    return {"memory": states, "memory_segments": ctx.segments}

  def _encoded(self, batch, *, train, capture):
    """The encoder's states [batch, source, width] and its context."""
    states, ctx = self.encoder.encode(batch, train=train, capture=capture)
    return self.drop(states, deterministic=not train), ctx

  def decode(self, batch, *, train=False, capture=frozenset(), cache_length=0):
    """The decoder and all heads that read it.

    Args:
      batch: `decoder_inputs`, and `memory` and `memory_segments`, which a
        filled cache makes needless.
      train: dropout on.
      capture: names kept in 'intermediates'.
      cache_length: keys and values kept for decoding, 0 for none.

    Returns:
      {"hidden": [batch, target, width], head name: output}.
    """
    hidden, ctx = self.decoder.encode(
      _target(batch), train=train, capture=capture, cache_length=cache_length
    )
    hidden = self.drop(hidden, deterministic=not train)
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      if name not in self.on_encoder:
        outputs[name] = head(hidden, batch, self.embeddings, ctx)
    return outputs

  @staticmethod
  def exported(spec: Mapping[str, Any], params):
    """The spec and parameters without the heads on the encoder."""
    names = spec.get("encoder_heads", {})
    spec = {key: spec[key] for key in spec if key != "encoder_heads"}
    left_out = {f"heads_{name}" for name in names}
    return spec, {k: v for k, v in params.items() if k not in left_out}

  @classmethod
  def assemble(cls, spec, *, dtype=jnp.float32, **given):
    """The model of a spec.

    Raises:
      UserError: an unknown key, towers that are not these two, a decoder
        that cannot read the encoder, or parts that do not fit.
    """
    check(spec)
    on_encoder = spec.get("encoder_heads", {})
    heads = {**spec.get("heads", {}), **on_encoder}
    parts = _late.over_one_table(spec, heads, dtype, **given)
    return cls(
      embeddings=parts.embeddings,
      heads=parts.heads,
      on_encoder=tuple(on_encoder),
      output_dropout=spec.get("output_dropout", 0.0),
      **parts.towers,
    )


def _target(batch) -> dict:
  """What the decoder reads, under the names of `Encoder`."""
  read = {
    "inputs": batch.get("decoder_inputs"),
    "segments": batch.get("decoder_segments"),
    "positions": batch.get("decoder_positions"),
  }
  if read["inputs"] is None:
    read = {key: batch.get(key) for key in read}
  read |= {key: batch.get(key) for key in ("memory", "memory_segments")}
  return {key: value for key, value in read.items() if value is not None}


def check(spec) -> None:
  """Raises UserError for keys and towers that do not make this model."""
  for key in spec:
    if key not in _KEYS:
      raise errors.unknown(
        "config.model of kind 'encoder_decoder' has no key", key, _KEYS
      )
  for key in ("width", "embeddings", "towers"):
    if key not in spec:
      raise errors.UserError(
        f"config.model has no '{key}', which an encoder_decoder needs."
      )
  towers = spec["towers"]
  if sorted(towers) != sorted(_TOWERS):
    raise errors.UserError(
      f"config.model.towers has {', '.join(sorted(towers)) or 'nothing'}; an "
      "encoder_decoder has the towers decoder and encoder."
    )
  for name, tower in towers.items():
    _check_tower(name, tower, spec["width"])
  _check_reading(towers["decoder"])
  for name in spec.get("encoder_heads", {}):
    if name in spec.get("heads", {}):
      raise errors.UserError(
        f"config.model.heads and config.model.encoder_heads both have "
        f"'{name}': give one of them another name."
      )


def _check_tower(name, tower, width) -> None:
  where = f"config.model.towers.{name}"
  if tower.get("kind") != name:
    raise errors.UserError(
      f"{where}.kind is {tower.get('kind')!r}; expected '{name}'."
    )
  if tower.get("width") != width:
    raise errors.UserError(
      f"{where}.width is {tower.get('width')}, but both towers read one token "
      f"table, of config.model.width {width}."
    )
  for key in _SHARED:
    if tower.get(key):
      raise errors.UserError(
        f"{where}.{key} is set, but {key} belong to the whole model: set "
        f"config.model.{key}."
      )


def _check_reading(decoder) -> None:
  if not any("cross" in layer for layer in decoder.get("layers", {}).values()):
    raise errors.UserError(
      "No layer of config.model.towers.decoder has the slot 'cross', so none "
      "reads the encoder: add cross=dict(kind='cross_attention', heads=...) "
      "and a block such as 'pre_norm_cross'."
    )
