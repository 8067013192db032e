"""What an objective asks of a model, told before any data are made.

A model says what it `can`, an objective what it `needs`, both by names of
`ABILITIES`. Without this a model that sees what it is to predict would train
to nothing, quietly.
"""

from jaxlm import errors
from jaxlm.models import models
from jaxlm.objectives import base

ABILITIES = {
  "next_token": "states that know nothing behind their token",
  "neighbours": "states of two directions that do not meet",
  "target": "a decoder beside the encoder, which reads `decoder_inputs`",
  "towers": "a generator and a discriminator, which run apart",
  "last_states": "the last layer's state of every token, hidden ones too",
}


def check(objective, model) -> None:
  """Raises UserError if the model lacks an ability or a head."""
  for need in getattr(objective, "needs", ()):
    if need not in model.can:
      raise errors.UserError(
        f"The objective '{type(objective).__name__}' needs {ABILITIES[need]}. "
        f"The model '{type(model).__name__}' has none: take config.model.kind="
        f"{' or '.join(map(repr, able(need)))}."
      )
  for head in base.heads_of(objective):
    if head not in model.heads:
      raise base.lacking(head, model.heads)


def able(need: str) -> list[str]:
  """Kinds of models that can."""
  return [k for k in models.kinds() if need in models.entry(k).build.can]
