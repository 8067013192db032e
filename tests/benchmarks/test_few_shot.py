"""Few labels: balanced samples, and arms that differ in the contrast alone."""

import argparse
import gzip

import numpy as np

from benchmarks import few_shot
from jaxlm import configuration


def arguments(tmp_path):
  path = tmp_path / "glue/SST-2/train.tsv.gz"
  path.parent.mkdir(parents=True)
  lines = [f"good {i}\t1" for i in range(30)] + [
    f"bad {i}\t0" for i in range(9)
  ]
  path.write_bytes(
    gzip.compress("\n".join(["sentence\tlabel", *lines]).encode())
  )
  return argparse.Namespace(
    shared=tmp_path, start="s", steps=5, learning_rate=1e-3
  )


def test_samples_are_balanced_and_their_own(tmp_path):
  args = arguments(tmp_path)
  files = [few_shot.sample(6, seed, args, tmp_path) for seed in (0, 1)]
  texts = [file.read_text().splitlines() for file in files]
  for head, *lines in texts:
    assert head == "sentence\tlabel" and len(set(lines)) == 6
    assert [line.split("\t")[1] for line in lines] == [*"000111"]
  assert texts[0] != texts[1]
  again = few_shot.sample(6, 0, args, tmp_path).read_text().splitlines()
  assert again == texts[0]


def test_arms_differ_in_the_share_alone(tmp_path):
  args = arguments(tmp_path)
  first, second = (
    few_shot.config_of(share, 3, "a.tsv", args)
    for share in few_shot.ARMS.values()
  )
  configuration.complete(first)
  assert first["objective"].pop("share") == 0.0
  assert second["objective"].pop("share") == 0.9
  assert first == second


def test_the_table_tells_who_is_ahead():
  found = {"20": dict(zip(few_shot.ARMS, ([0.5, 0.6, 0.7], [0.6, 0.6, 0.6])))}
  assert few_shot.table(found).splitlines()[-1] == (
    "| 20 | 0.600 ± 0.100 | 0.600 ± 0.000 | 1 of 3, 1 equal |"
  )
  assert np.isclose(sum(few_shot.ARMS.values()), 0.9)
