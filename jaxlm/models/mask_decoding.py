"""An encoder that decodes masked tokens in two steps more (DeBERTa)."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn

from jaxlm import errors
from jaxlm.layers.heads.masked_lm import MaskedLMHead
from jaxlm.models import models
from jaxlm.models.encoder import Encoder


@models.register("mask_decoding_encoder", paper="arXiv:2006.03654")
class MaskDecodingEncoder(Encoder):
  """The encoder, and the enhanced mask decoder for its masked-LM head.

  Section 3.2 of the paper: absolute positions come in only where masked
  tokens are decoded. As its release: with h the states before the last layer,
  queries start at h plus absolute positions and pass that layer twice, with
  keys and values from h both times. `hidden`, and all heads but the masked-LM
  one, read the last layer as ever, so that fine-tuning needs no decoder.
  """

  steps: ClassVar[int] = 2

  def setup(self):
    super().setup()
    self._check()

  def __call__(
    self, batch, *, train=False, capture=frozenset(), cache_length=0
  ):
    """As of `Encoder`."""
    x, ctx = self.embed(
      batch, train=train, capture=capture, cache_length=cache_length
    )
    before = self.stack.before_last(x, ctx)
    hidden = self.stack.last(before, ctx)
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      masked = isinstance(head, MaskedLMHead)
      read = self._decoded(before, ctx) if masked else hidden
      outputs[name] = head(read, batch, self.embeddings, ctx)
    return outputs

  def _decoded(self, before, ctx):
    """[batch, length, width] -> the same, for masked tokens."""
    ctx = ctx.replace(capture=frozenset())  # these are no layers' states
    query = before + self.positions.absolute(ctx)
    for _ in range(self.steps):
      query = self.stack.last(query, ctx, before)
    return query

  @classmethod
  def lengths(cls, spec: Mapping[str, Any], batch_spec) -> dict[str, Any]:
    """How often the last layer runs again, for FLOPs; see `jaxlm.flops`."""
    del batch_spec
    decodes = [h["kind"] == "masked_lm" for h in spec["heads"].values()]
    read = any(not masked for masked in decodes) or not decodes
    return {"": dict(again=cls.steps * any(decodes) + read - 1)}

  @staticmethod
  def exported(spec: Mapping[str, Any], params):
    """The spec and parameters of the encoder without its decoder.

    No class of transformers computes the decoder: its masked-LM head would
    read states that it was not trained on, and is left out.
    """
    heads = {k: v for k, v in spec["heads"].items() if v["kind"] != "masked_lm"}
    gone = {f"heads_{name}" for name in spec["heads"] if name not in heads}
    kept = {k: v for k, v in nn.meta.unbox(params).items() if k not in gone}
    return {**spec, "kind": "encoder", "heads": heads}, kept

  def _check(self):
    """Raises UserError for parts that cannot decode so."""
    part = self.positions
    wrong = {
      "config.model.positions": (
        not getattr(part, "max_length", None)
        or not hasattr(part, "absolute")
        or part.biased_input,
        "give kind='disentangled' with max_length and without biased_input, "
        "for absolute positions that the input does not know",
      ),
      "config.model.stack": (
        not hasattr(self.stack, "before_last") or len(self.stack.layers) < 2,
        "give at least two layers, in stack 'sequential' or 'scan'",
      ),
      "the last of config.model.order": (
        not _reads_apart(self.stack.layers[-1]),
        "give a block and a mixer whose keys and values may be apart from the "
        "queries, such as 'post_norm' and 'disentangled_attention'",
      ),
      "config.model.final_norm": (
        self.final_norm is not None,
        "leave it out, and take blocks with a norm at their end",
      ),
    }
    for key, (found, wanted) in wrong.items():
      if found:
        raise errors.UserError(
          f"config.model.kind 'mask_decoding_encoder' does not fit {key}: "
          f"{wanted}."
        )


def _reads_apart(layer) -> bool:
  """Whether a block and its mixer take keys and values apart."""
  parts = (layer, layer.mixer)
  return all("kv" in inspect.signature(part).parameters for part in parts)
