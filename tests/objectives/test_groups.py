"""Several anchors a row: packed, and the same loss as one a row."""

import collections

import jax
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.data import datasets, tokenizers
from jaxlm.errors import UserError
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from tests import tiny

LINES = ["a dog", "the cat", "a cat and a dog", "one", "the dog barks", "a"]
PAIRS = [
  f"{line}\tthe {line}\t{'' if i % 2 else 'no'}" for i, line in enumerate(LINES)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """kind of rows, groups -> prepared data whose first batch is an epoch."""
  folder = tmp_path_factory.mktemp("groups")
  (folder / "a.txt").write_text("\n".join(LINES), encoding="utf-8")
  (folder / "a.tsv").write_text(
    "\n".join(["x\ty\tz", *PAIRS]), encoding="utf-8"
  )
  tokenizer = tokenizers.train(
    dict(kind="wordpiece", vocab_size=tiny.VOCAB), LINES * 3 + ["no"]
  )

  def prepare(file, groups, rows, **fields):
    return datasets.build(
      dict(kind="sentences", files=str(folder / file), length=8)
      | dict(groups=groups, validation_share=0.0)
      | fields
    ).prepare(
      tokenizer=tokenizer,
      workdir=folder / f"{file}{groups}",
      batch_size=rows,
      seed=0,
      report=lambda line: None,
    )

  return prepare


KINDS = pytest.mark.parametrize(
  "file, fields",
  [("a.txt", {}), ("a.tsv", dict(columns=("x", "y", "z")))],
)


def texts(prepared, batch):
  """The texts of every group of a batch, sorted."""
  found = []
  for row, weights in enumerate(batch["view_weights"]):
    segments = batch["segments"][row]
    for group, counts in enumerate(weights):
      if counts[0]:
        first = 1 + group * len(counts)
        found.append(
          tuple(
            prepared.tokenizer.decode(batch["inputs"][row][segments == view])
            for view in range(first, first + len(counts))
          )
        )
  return sorted(found)


@KINDS
def test_every_group_is_in_one_row_and_rows_are_fuller(made, file, fields):
  one = made(file, 1, 6, **fields)
  alone = one.train.batch_at(0, 0)
  some = made(file, 3, 1, **fields)
  packed = made(file, 3, some.train.rows, **fields)
  batch = packed.train.batch_at(0, 0)
  assert one.train.rows == 6 and packed.train.rows < 5
  assert batch["inputs"].shape[1] == alone["inputs"].shape[1]
  assert texts(packed, batch) == texts(one, alone)
  kinds = alone["view_weights"].shape[-1]
  assert batch["view_weights"].shape[1:] == (3, kinds)
  for row, weights in enumerate(batch["view_weights"]):
    places = batch["cls_positions"][row].reshape(3, kinds)
    there = weights[:, :1] > 0
    assert (batch["positions"][row][places] == 0).all()
    ids = batch["inputs"][row][places]
    assert (ids[there[:, 0]] == packed.tokenizer.cls_id).all()


@pytest.mark.parametrize("kind", ["simcse", "clear"])
@KINDS
def test_the_contrast_is_that_of_one_group_a_row(made, kind, file, fields):
  model = assembly.build(
    tiny.model_spec(
      positions=dict(kind="learned", max_length=24),
      heads=dict(embed=dict(kind="embed", pooling="mean")),
    )
  )
  part = objectives.build(dict(kind=kind, masked_lm=0.0))
  count = made(file, 3, 1, **fields).train.rows
  batches = [
    made(file, groups, rows, **fields).train.batch_at(0, 0)
    for groups, rows in ((1, 6), (3, count))
  ]
  params = tiny.fill(tiny.shapes(model, batches[0]))

  def mean(params, batch):
    found = part(model, params, batch, None, train=False).sums
    return found["contrast"] / part.weights(batch)["contrast"]

  (value, gradient), (packed, other) = (
    jax.value_and_grad(mean)(params, batch) for batch in batches
  )
  np.testing.assert_allclose(packed, value, rtol=1e-5)
  for path, leaf in paths.flatten(gradient).items():
    np.testing.assert_allclose(
      paths.flatten(other)[path], leaf, atol=2e-5, err_msg=path
    )


def test_rewordings_are_of_all_groups(made):
  """Each view loses a share of its own words, whatever stands beside it."""
  change = dict(augment=dict(delete_words=dict(rate=0.4)))
  count = made("a.txt", 3, 1, **change).train.rows
  packed = made("a.txt", 3, count, **change)
  batch = packed.train.batch_at(0, 0)
  left = collections.Counter()
  for views in texts(packed, batch):
    for view in views:
      left[len(view.split())] += 1
  words = [len(line.split()) for line in LINES]
  kept = [n - min(round(0.4 * n), n - 1) for n in words]
  assert left == collections.Counter(2 * kept)


def test_less_than_one_group_is_told(made):
  with pytest.raises(UserError, match="data.groups is 0; it is a whole number"):
    made("a.txt", 0, 1)
