import numpy as np
import pytest

from jaxlm import errors
from jaxlm.evaluation import fill as module
from tests.evaluation import toys


@pytest.fixture(scope="module")
def loaded():
  return toys.masked()


def _slow(loaded, text):
  """Softmax at every mask of one unpadded row."""
  ids = [2, *loaded.tokenizer.encode(text, specials=True), 3]
  logits = toys.forward(loaded, ids, "masked_lm").astype(np.float64)
  logits = logits[np.array(ids) == 4]
  shares = np.exp(logits - logits.max(-1, keepdims=True))
  return shares / shares.sum(-1, keepdims=True)


def test_candidates_equal_one_forward(loaded):
  texts = [
    "the [MASK] sat .",
    "[MASK] [MASK] a b c d e f g h i j [MASK]",
    "a [MASK]",
  ]
  found = module.fill(loaded, texts, top=3, rows=2)
  assert [len(masks) for masks in found] == [1, 3, 1]
  for text, masks in zip(texts, found):
    for shares, candidates in zip(_slow(loaded, text), masks):
      order = np.argsort(-shares)[:3]
      assert [c.id for c in candidates] == order.tolist()
      np.testing.assert_allclose(
        [c.probability for c in candidates], shares[order], rtol=1e-4
      )
      pieces = [loaded.tokenizer.id_to_token(i) for i in order]
      assert [c.token for c in candidates] == pieces
      assert [c.piece for c in candidates] == pieces


def test_all_candidates_sum_to_one(loaded):
  [[candidates]] = module.fill(loaded, ["the [MASK]"], top=10_000)
  assert len(candidates) == loaded.tokenizer.vocab_size
  assert sum(c.probability for c in candidates) == pytest.approx(1, abs=1e-5)


def test_filled_text(loaded):
  text = "the [MASK] sat [MASK]"
  cat, dog = (loaded.tokenizer.token_to_id(w) for w in ("cat", "dog"))
  candidates = [
    [module.Candidate("cat", "cat", cat, 1.0)],
    [module.Candidate("dog", "dog", dog, 1.0)],
  ]
  assert module.filled(loaded, text, candidates) == "the cat sat dog"


def test_bad_input(loaded):
  with pytest.raises(errors.UserError, match=r"'the cat' has no mask.*\[MASK"):
    module.fill(loaded, ["the [MASK]", "the cat"])
  with pytest.raises(errors.UserError, match="43 tokens.*32 positions"):
    module.fill(loaded, ["[MASK]" + " a" * 40])
  with pytest.raises(errors.UserError, match="top is 0"):
    module.fill(loaded, ["[MASK]"], top=0)
  with pytest.raises(errors.UserError, match="Filling masks needs.*causal_lm"):
    module.fill(toys.causal(), ["[MASK]"])


def test_nothing_to_fill(loaded):
  assert module.fill(loaded, []) == []
