"""Words told by their vectors, against a loop in float64."""

import types

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.commands import evaluate as command
from jaxlm.evaluation import neighbours

WIDTH, VOCAB = 6, 30


class Model:
  """Predictions that are what the variables hold."""

  heads = {
    "continuous": types.SimpleNamespace(vector_width=WIDTH, directions=1)
  }

  def apply(self, variables, batch, *, train):
    return {"continuous": variables["params"][batch["number"]]}


def made(seed=0):
  rng = np.random.default_rng(seed)
  table = rng.standard_normal((VOCAB, WIDTH)).astype(np.float32)
  table /= np.linalg.norm(table, axis=1, keepdims=True)
  table[0] = 0.0
  table[7] = table[8]  # two words that cannot be told apart
  batches = []
  for number in range(3):
    targets = rng.integers(1, VOCAB, (2, 5)).astype(np.int32)
    targets[0, 0] = 7
    weights = rng.integers(0, 2, (2, 5)).astype(np.float32)
    weights[0, 0] = 1.0
    batches.append(
      (
        2 * number,
        dict(inputs=targets, targets=targets, weights=weights, number=number),
      )
    )
  noise = rng.standard_normal((3, 2, 5, WIDTH))
  found = np.stack([table[b["targets"]] for _, b in batches]) + 0.7 * noise
  return table, batches, found.astype(np.float32)


def slow(table, batches, found):
  """(cosine, rank) of each word that counts."""
  table = table.astype(np.float64)
  for _, batch in batches:
    for row, place in np.argwhere(batch["weights"] > 0):
      mine = found[batch["number"], row, place].astype(np.float64)
      scores = table @ mine / np.linalg.norm(mine)
      own = scores[batch["targets"][row, place]]
      nearer = [i for i in range(1, VOCAB) if scores[i] > own + 1e-7]
      yield own, len(nearer)


@pytest.mark.parametrize("at_once", [1 << 24, 4 * VOCAB])
def test_ranks_are_those_of_a_loop(monkeypatch, at_once):
  monkeypatch.setattr(neighbours, "_SCORES", at_once)
  table, batches, found = made()
  result = neighbours.measure(Model(), {"params": found}, batches, table)
  near, ranks = map(np.array, zip(*slow(table, batches, found)))
  assert result["count"] == len(ranks) > 12
  assert result["candidates"] == VOCAB - 1
  assert result["cosine"] == pytest.approx(near.mean(), rel=1e-5)
  for k in (1, 5, 10):
    assert result[f"accuracy@{k}"] == np.mean(ranks < k)
  share = np.mean(ranks < 5)
  assert 0 < share < 1
  assert result["accuracy@5_error"] == pytest.approx(
    np.sqrt(share * (1 - share) / len(ranks))
  )
  assert result["mean_reciprocal_rank"] == pytest.approx(
    np.mean(1 / (1 + ranks))
  )


def test_perfect_predictions_are_nearest_and_twins_share_a_place():
  table, batches, _ = made()
  found = np.stack([2.0 * table[b["targets"]] for _, b in batches])
  result = neighbours.measure(Model(), {"params": found}, batches, table)
  assert result["accuracy@1"] == 1.0
  assert result["cosine"] == pytest.approx(1.0, rel=1e-6)


def test_words_beyond_the_candidates_are_among_no_nearest():
  table, batches, _ = made()
  found = np.stack([table[b["targets"]] for _, b in batches])
  few = neighbours.measure(Model(), {"params": found}, batches, table[:15])
  words = np.concatenate([b["targets"][b["weights"] > 0] for _, b in batches])
  assert few["accuracy@10"] == np.mean(words < 15)
  assert few["cosine"] == pytest.approx(1.0, rel=1e-6)


def test_mistakes_are_told():
  table, batches, found = made()
  with pytest.raises(errors.UserError, match="candidates have 4"):
    neighbours.measure(Model(), {"params": found}, batches, table[:, :4])
  with pytest.raises(errors.UserError, match="no word to predict"):
    neighbours.measure(Model(), {"params": found}, [], table)


def test_the_command_judges_by_one_thing_at_a_time():
  for flags in (["--neighbours", "--files=a"], []):
    with pytest.raises(errors.UserError, match="needs one of --files, --pairs"):
      command.main(["--checkpoint=nowhere", *flags])
