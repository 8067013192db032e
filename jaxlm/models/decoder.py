"""A causal language model: an encoder whose mixers look back only."""

from typing import ClassVar

from jaxlm.models import models
from jaxlm.models.encoder import Encoder


@models.register("decoder", paper="Radford et al. 2019, GPT-2")
class Decoder(Encoder):
  """The encoder's assembly; `jaxlm.models.generation` decodes with it.

  Its layers must be causal, which `assembly.build` checks.
  """

  can: ClassVar[tuple[str, ...]] = ("next_token", "last_states")
