"""Sentences judged by a causal language model: log p of the whole text."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import errors
from jaxlm.evaluation import _model
from jaxlm.evaluation.pseudo_likelihood import reduce
from jaxlm.objectives.base import cross_entropy


def log_likelihood(
  loaded,
  sentences: Sequence[str],
  *,
  reduction: str = "sum",
  rows: int = 64,
) -> np.ndarray:
  """Sum over tokens of log p(token | those before), float64 [sentences].

  The beginning-of-text token stands in front, so the first token is scored
  too; no end of text is scored.

  Args:
    loaded: a `jaxlm.loading.Loaded` with the head `causal_lm`, or alike.
    sentences: texts.
    reduction: "sum", or "mean" over the tokens.
    rows: most rows of a forward; fewer where the logits would fill memory.

  Raises:
    UserError: no causal-LM head, no beginning-of-text token, an empty or too
      long sentence, or an unknown reduction.
  """
  return reduce(token_log_likelihoods(loaded, sentences, rows=rows), reduction)


def token_log_likelihoods(
  loaded, sentences: Sequence[str], *, rows: int = 64
) -> list[np.ndarray]:
  """log p(token | those before) of every token, float64 [tokens] a sentence."""
  _model.require_head(loaded.model, "causal_lm", "Scoring from left to right")
  tokenizer = _model.require_tokenizer(loaded)
  longest = loaded.model.positions.longest()
  static = _model.Static(loaded.model)
  variables = _model.on_device(loaded.variables)
  texts = tokenizer.encode_batch(list(sentences))
  for index, ids in enumerate(texts):
    what = f"Sentence {index} ({_model.shorten(sentences[index])})"
    if not ids:
      raise errors.UserError(f"{what} holds no token to score.")
    _model.check_length(len(ids), longest, what)
  found: list[np.ndarray] = [np.zeros(0)] * len(texts)
  grouped = _model.buckets([len(ids) for ids in texts], longest)
  for length, owners in grouped.items():
    count = _model.rows_within(length, tokenizer.vocab_size, rows)
    for some in _model.chunks(owners, count):
      # The model reads all but the last token, behind the beginning.
      inputs = [[tokenizer.bos_id, *texts[o][:-1]] for o in some]
      batch = _model.padded(inputs, count, length, tokenizer.pad_id)
      targets = _model.padded(
        [texts[o] for o in some], count, length, tokenizer.pad_id
      )["inputs"]
      scores = np.asarray(_scores(static, variables, batch, targets))
      for row, owner in enumerate(some):
        found[owner] = scores[row, : len(texts[owner])].astype(np.float64)
  return found


@functools.partial(jax.jit, static_argnums=0)
def _scores(static, variables, batch, targets):
  logits = static.model.apply(variables, batch, train=False)["causal_lm"]
  return -cross_entropy(logits, jnp.asarray(targets))
