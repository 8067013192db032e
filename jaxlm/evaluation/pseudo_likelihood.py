"""Sentences judged by a masked language model, one masked token at a time.

Salazar et al., "Masked Language Model Scoring", 2020, arXiv:1910.14659: the
pseudo-log-likelihood (PLL) of a sentence is the sum over its tokens of
log p(token | all other tokens). A sentence of n tokens becomes n rows; rows of
similar length share batches of static shape: few compilations, little
padding. Kauf and Ivanova, "A Better Way to Do Masked Language Model Scoring",
2023, arXiv:2305.10588, hide the rest of a word too (`within_word_l2r`): the
later pieces of a rare word otherwise give the earlier ones away.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxlm import errors
from jaxlm.evaluation import _model

VARIANTS = ("original", "within_word_l2r", "whole_word")
REDUCTIONS = ("sum", "mean")


class _Text(NamedTuple):
  """ids with special tokens; the text's own are at first .. first + n."""

  ids: list[int]
  first: int
  masks: list[list[int]]  # for each token of its own, the places to mask


def pll(
  loaded,
  sentences: Sequence[str],
  *,
  variant: str = "original",
  reduction: str = "sum",
  rows: int = 64,
) -> np.ndarray:
  """Pseudo-log-likelihoods of sentences, float64 [sentences], in nats.

  Args:
    loaded: a `jaxlm.loading.Loaded` with the head `masked_lm`, or alike.
    sentences: texts; special tokens are added and neither masked nor scored.
    variant: what is hidden when a token is scored: it alone ("original"),
      also the later pieces of its word ("within_word_l2r"), its whole word
      ("whole_word").
    reduction: "sum" (Salazar) or "mean" over the tokens.
    rows: rows of a forward.

  Raises:
    UserError: no masked-LM head, no mask token, an empty or too long
      sentence, or an unknown variant or reduction.
  """
  _model.require_head(loaded.model, "masked_lm", "Scoring by masking")
  scores = token_scores(
    scorer(loaded.model, loaded.variables),
    _model.require_tokenizer(loaded),
    sentences,
    variant=variant,
    rows=rows,
    longest=loaded.model.positions.longest(),
  )
  return reduce(scores, reduction)


def scorer(model, variables) -> Callable:
  """`(inputs, segments, positions, predict_positions) -> log-probs`, jitted.

  int32 [rows, length] three times and [rows, 1] -> float32 [rows, vocab].
  """
  static, variables = _model.Static(model), _model.on_device(variables)

  def score(inputs, segments, positions, predict_positions):
    batch = {
      "inputs": inputs,
      "segments": segments,
      "positions": positions,
      "predict_positions": predict_positions,
    }
    return _log_probs(static, variables, batch)

  return score


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(static, variables, batch):
  logits = static.model.apply(variables, batch, train=False)["masked_lm"]
  return jax.nn.log_softmax(logits[:, 0], axis=-1)


def token_scores(
  score: Callable,
  tokenizer,
  sentences: Sequence[str],
  *,
  variant: str = "original",
  rows: int = 64,
  longest: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> list[np.ndarray]:
  """log p(token | the unmasked rest) of every token of every sentence.

  Args:
    score: see `scorer`; `rows` never changes, and `length` takes few values.
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer`, or alike.
    sentences: texts.
    variant: see `pll`.
    rows: rows of a batch.
    longest: positions of the model, or None.
    progress: called with (rows done, rows in all) after each batch.

  Returns:
    float64 [tokens] for each sentence.

  Raises:
    UserError: as `pll`.
  """
  texts = _texts(tokenizer, sentences, variant, longest)
  found = [np.zeros(len(text.masks)) for text in texts]
  done, total = 0, sum(map(len, found))
  lengths = [len(text.ids) for text in texts]
  for length, owners in _model.buckets(lengths, longest).items():
    jobs = [(o, token) for o in owners for token in range(len(found[o]))]
    for some in _model.chunks(jobs, rows):
      batch, true = _batch(texts, some, rows, length, tokenizer)
      # All rows, also those that fill up: one shape, one compilation.
      chosen = np.asarray(score(*batch)[np.arange(rows), true])
      for (owner, token), value in zip(some, chosen):
        found[owner][token] = value
      done += len(some)
      if progress is not None:
        progress(done, total)
  return found


def reduce(scores: Sequence[np.ndarray], reduction: str = "sum") -> np.ndarray:
  """One score a sentence, float64 [sentences], from scores of its tokens.

  Minimal pairs with different numbers of tokens may turn around between
  "sum" and "mean": tell which was used.
  """
  if reduction not in REDUCTIONS:
    raise errors.unknown("There is no reduction", reduction, REDUCTIONS)
  function = np.sum if reduction == "sum" else np.mean
  return np.array([function(values) for values in scores], np.float64)


def pseudo_perplexity(scores: Sequence[np.ndarray]) -> float:
  """exp(-sum of all scores / number of all tokens), over a whole corpus.

  Not comparable between vocabularies.
  """
  values = np.concatenate([np.asarray(s, np.float64) for s in scores])
  return math.exp(-float(values.mean()))


def mask_sets(words: Sequence[int], variant: str) -> list[list[int]]:
  """For each token, the places to mask when it is scored.

  Args:
    words: the word that each token belongs to, non-decreasing.
    variant: see `pll`.

  Raises:
    UserError: an unknown variant.
  """
  if variant not in VARIANTS:
    raise errors.unknown("There is no PLL variant", variant, VARIANTS)
  places = range(len(words))
  if variant == "original":
    return [[place] for place in places]
  same = [[p for p in places if words[p] == words[place]] for place in places]
  if variant == "whole_word":
    return same
  return [[p for p in same[place] if p >= place] for place in places]


def _texts(tokenizer, sentences, variant, longest) -> list[_Text]:
  texts = []
  for index, ids in enumerate(tokenizer.encode_batch(list(sentences))):
    what = f"Sentence {index} ({_model.shorten(sentences[index])})"
    if not ids:
      raise errors.UserError(f"{what} holds no token to score.")
    words = range(len(ids))
    if variant != "original":
      # The first token begins a word whatever its piece looks like.
      words = np.cumsum(np.asarray(tokenizer.word_starts)[ids][1:])
      words = [0, *words.tolist()]
    whole, first = _model.framed(tokenizer, ids)
    _model.check_length(len(whole), longest, what)
    texts.append(_Text(whole, first, mask_sets(words, variant)))
  return texts


def _batch(texts, jobs, rows, length, tokenizer):
  """((inputs, segments, positions, predict_positions), true ids [rows])."""
  batch = _model.padded(
    [texts[owner].ids for owner, _ in jobs], rows, length, tokenizer.pad_id
  )
  predict = np.zeros((rows, 1), np.int32)
  true = np.zeros(rows, np.int32)
  for row, (owner, token) in enumerate(jobs):
    ids, first, masks = texts[owner]
    predict[row, 0] = first + token
    true[row] = ids[first + token]
    hidden = first + np.asarray(masks[token])
    batch["inputs"][row, hidden] = tokenizer.mask_id
  arrays = (batch["inputs"], batch["segments"], batch["positions"], predict)
  return arrays, true
