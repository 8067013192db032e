"""NarrowBERT, ContextFirst: all attention first, then what each token needs."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxlm import errors
from jaxlm.models import _reading, models
from jaxlm.models.encoder import Encoder


@models.register("context_first_encoder", paper="arXiv:2301.04761")
class ContextFirstEncoder(Encoder):
  """The encoder in another order: mixers of all layers, then feed-forwards.

  Mixers, with their residuals and norms, run on whole rows; feed-forwards,
  one layer's after the other's, only at the places that heads read: those to
  predict, or [CLS] of a sentence. Where a head reads whole rows, so do they.
  One layer is the encoder's.
  """

  can: ClassVar[tuple[str, ...]] = ()  # some states have no feed-forwards
  no_export = (
    "its feed-forwards all come after its attention (NarrowBERT's "
    "ContextFirst), which no class of transformers computes."
  )

  def setup(self):
    super().setup()
    self._check()

  def __call__(self, batch, *, train=False, capture=frozenset()):
    """As of `Encoder`.

    Returns:
      {"hidden": [batch, length, width], head name: output}; `hidden` holds
      states before feed-forwards where no head reads.
    """
    x, ctx = self.embed(batch, train=train, capture=capture)
    mixed = self.stack.halves(x, ctx, "mixed")
    read = _reading.reading(self.heads, batch)
    if read is None:
      hidden = found = self._fed(mixed, ctx)
    else:
      x, ctx = read.gathered(mixed, ctx.replace(bias=None))
      found, batch = self._fed(x, ctx), read.batch
      hidden = read.scattered(found, mixed)
    outputs = {"hidden": hidden}
    for name, head in self.heads.items():
      outputs[name] = head(found, batch, self.embeddings, ctx)
    return outputs

  def _fed(self, x, ctx):
    x = self.stack.halves(x, ctx, "fed")
    return x if self.final_norm is None else self.final_norm(x)

  @staticmethod
  def lengths(spec: Mapping[str, Any], batch_spec) -> dict[str, Any]:
    """Tokens a row that feed-forwards meet, for FLOPs; see `jaxlm.flops`."""
    return {"": dict(feedforward=_reading.count(spec, batch_spec))}

  def _check(self):
    """Raises UserError for stacks and blocks that cannot be taken apart."""
    if not hasattr(self.stack, "halves"):
      raise errors.UserError(
        "config.model.kind is 'context_first_encoder', which runs layers half "
        "by half, but config.model.stack runs them whole: take "
        "stack.kind='sequential'."
      )
    for layer in self.stack.layers:
      if not getattr(layer, "splits", False):
        raise errors.UserError(
          "config.model.kind is 'context_first_encoder', which takes layers "
          f"apart into mixer and feed-forward, but {type(layer).__name__} is "
          "not made of these two: take block.kind='post_norm' or 'pre_norm', "
          "and layers as wide as the model."
        )
