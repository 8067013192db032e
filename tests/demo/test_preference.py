import math

import numpy as np
import pytest

from jaxlm.demo import corpus, preference

SENTENCE = "Return the length of a list that has been sorted."


def test_prose_sentences_only():
  text = (
    "Return the length of a list that has been sorted. Too short a one.\n\n"
    "    >>> print(1)  # Code is not a sentence of any kind here.\n\n"
    "This one goes over\ntwo lines, and is kept whole.\n\n"
    "no capital begins this sentence of seven words.\n"
  )
  assert list(preference.sentences(text)) == [
    SENTENCE,
    "This one goes over two lines, and is kept whole.",
  ]


@pytest.mark.parametrize(
  "text",
  [
    "Call foo_bar to get the length of it.",
    "The value x=3 is what it will return.",
    "Is this a sentence that ends in a question?",
    "HTTP GET URL TCP UDP IPC are no English words.",
    " ".join(["Word"] + ["word"] * 24 + ["word."]),
  ],
)
def test_no_code_no_questions_no_shouting_not_too_long(text):
  assert not list(preference.sentences(text))


def test_swap_moves_two_neighbours_inside_the_sentence():
  swapped = preference.swap(SENTENCE)
  old, new = SENTENCE.split(), swapped.split()
  differ = [i for i, (a, b) in enumerate(zip(old, new)) if a != b]
  i = differ[0]
  assert differ == [i, i + 1]
  assert (new[i], new[i + 1]) == (old[i + 1], old[i])
  assert i > 0 and i + 1 < len(old) - 1
  assert swapped == preference.swap(SENTENCE)


def test_swap_leaves_capitals_punctuation_and_twins_alone():
  # Only 'had had' is left between what may not move, and it reads the same.
  assert preference.swap("They, John, had had, Mary said.") is None


def test_places_of_the_swap_are_spread_over_the_sentence():
  words = ["alpha", "beta", "gamma", "delta", "zeta", "eta", "theta", "iota"]
  places = set()
  for last in range(200):
    old = ["Begin", *words, f"end{last}."]
    new = preference.swap(" ".join(old)).split()
    places.add(next(i for i, (a, b) in enumerate(zip(old, new)) if a != b))
  assert places == set(range(1, 8))


def test_pairs_leave_out_what_training_has_seen_and_repetitions():
  held_out = [SENTENCE, SENTENCE, "Close the file that was opened by it."]
  seen = "x. Close the FILE\n that was opened by it. y"
  made = preference.pairs(held_out, [seen])
  assert [p.real for p in made] == [SENTENCE]


@pytest.mark.slow
def test_real_pairs_hold_the_same_words(real_records):
  parts = corpus.split(real_records)
  made = preference.pairs(
    [r["text"] for r in parts["test"]], [r["text"] for r in parts["train"]]
  )
  assert len(made) >= 300
  assert len({p.real for p in made}) == len(made)
  for real, swapped in made:
    assert real != swapped
    assert sorted(real.split()) == sorted(swapped.split())


def test_measure():
  found = preference.measure([-1.0, -2.0, -3.0, -4.0], [-2.0, -3.0, -2.0, -4.0])
  assert found.share == pytest.approx(2.5 / 4)
  assert found.error == pytest.approx(math.sqrt(0.625 * 0.375 / 4))
  assert found.count == 4


def test_word_frequencies_alone_prefer_nothing():
  made = preference.pairs([SENTENCE, "Close the file that was opened by it."])
  score = lambda text: sum(map(len, text.split()))  # any sum over words
  found = preference.measure(
    [score(p.real) for p in made], [score(p.swapped) for p in made]
  )
  assert found.share == 0.5


@pytest.mark.parametrize(
  "real, swapped", [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0])]
)
def test_scores_that_cannot_be_compared(real, swapped):
  with pytest.raises(ValueError):
    preference.measure(real, swapped)
