"""Sentinels of trained vocabularies, and T5's template."""

import pytest

from jaxlm import errors
from jaxlm.data.tokenizers import tokenizers

TEXT = ["the cat sat on the mat", "a dog and a cat", "the mat is red"] * 20


@pytest.mark.parametrize(
  ("kind", "size"), [("unigram", 320), ("byte_bpe", 300), ("wordpiece", 90)]
)
def test_sentinels_are_the_last_ids_the_first_of_them_last(kind, size):
  spec = dict(kind=kind, vocab_size=size, sentinels=5)
  made = tokenizers.build(spec).make(TEXT, seed=0)
  last = made.vocab_size - 1
  assert made.vocab_size <= size
  found = [made.token_to_id(f"<extra_id_{i}>") for i in range(5)]
  assert found == [last - i for i in range(5)]
  assert made.is_special[found].all()
  assert not set(found) & set(made.random_pool.tolist())
  plain = tokenizers.build(spec | dict(vocab_size=size - 5, sentinels=0))
  plain = plain.make(TEXT, seed=0)
  assert made.encode(TEXT[0]) == plain.encode(TEXT[0])  # text stays text


def test_t5_closes_a_text_and_opens_none():
  spec = dict(kind="unigram", vocab_size=320, template="t5")
  made = tokenizers.build(spec).make(TEXT, seed=0)
  ids = made.encode(TEXT[0])
  end = made.token_to_id("</s>")
  assert made.bracket(ids)[0] == [*ids, end]
  assert made.bracket(ids, ids)[0] == [*ids, end, *ids, end]
  assert (made.pad_id, made.eos_id) == (0, end)


def test_more_sentinels_than_tokens_are_told():
  with pytest.raises(errors.UserError, match="sentinels is 90"):
    tokenizers.build(dict(kind="wordpiece", vocab_size=90, sentinels=90)).make(
      TEXT, seed=0
    )
