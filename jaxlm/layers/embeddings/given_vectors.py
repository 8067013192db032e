"""Frozen vectors of words, which the batch brings (ELMo-C)."""

import jax
import jax.numpy as jnp

from jaxlm import errors
from jaxlm.layers import told
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.embeddings._projected import Projected


@embeddings.register(
  "given_vectors",
  paper="Li et al., TACL 2019, ELMo-C",
  example={
    "vocab_size": 64,
    "width": 32,
    "vector_width": 32,
    "norm": {"kind": "layer_norm"},
  },
)
class GivenVectors(Projected):
  """norm(W v + b), v the vector that the batch has for the word.

  Nothing of the vocabulary is learned or held by the model, which thus may
  read any word that a vector is known of. `config.data.kind='word_vectors'`
  gives them, and tells `vector_width` where the config does not.
  """

  told = staticmethod(told.vector_width)

  def lookup(self, tokens, types=None, ctx=None):
    """tokens [batch, length] -> [batch, length, looked_up].

    Raises:
      UserError: a batch without vectors, or with those of another width.
    """
    del types
    found = None if ctx is None else ctx.vectors
    if found is None and self.is_initializing():  # for shapes alone
      found = jnp.zeros((*tokens.shape, self.vector_width))
    if found is None:
      raise errors.UserError(
        "embedding 'given_vectors' reads word_vectors, which the data do not "
        "give: set config.data.kind='word_vectors'."
      )
    if found.shape[-1] != self.vector_width:
      raise errors.UserError(
        "config.model.embeddings.vector_width is "
        f"{self.vector_width}, but the data's vectors have {found.shape[-1]} "
        "numbers: set it so, or leave it out."
      )
    return jax.lax.stop_gradient(found).astype(self.dtype)
