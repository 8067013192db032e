"""Every shipped `tiny` config learns more than how often words occur.

Three hundred steps on real text, through the real loop: the loss of tokens
must end below the entropy of single tokens, which no model without context
can beat.
"""

import functools
import gzip
import importlib

import jax
import numpy as np
import pytest

from benchmarks._pipelines import reading
from jaxlm import configuration, run, sharding
from tests import tiny

STEPS = 300
# Of an objective's terms, the one that predicts tokens.
TERMS = (
  "masked_lm",
  "generator",
  "causal_lm",
  "seq2seq",
  "bidirectional_lm",
)


@pytest.fixture(scope="module")
def text(shared, tmp_path_factory):
  source = shared / "text" / "tinystories" / "train.txt.gz"
  file = tmp_path_factory.mktemp("text") / "stories.txt"
  file.write_bytes(gzip.decompress(source.read_bytes()))
  return file


def entropy(task) -> float:
  """Nats of the distribution of what is predicted."""
  key, weight = (
    ("predict_ids", "predict_weights")
    if "predict_ids" in task.batch_spec
    else ("targets", "weights")
  )
  found = []
  for step in range(32):
    batch = task.batch_at(0, step)
    found.append(batch[key][batch[weight] > 0])
  _, counts = np.unique(np.concatenate(found), return_counts=True)
  shares = counts / counts.sum()
  return float(-np.sum(shares * np.log(shares)))


def learnable(name) -> bool:
  """Whether `tiny` begins from nothing, on text."""
  config = importlib.import_module(f"configs.{name}").get_config("tiny")
  # Distances to vectors of words are no nats; sentences are no running text.
  others = ("word_vectors", "sentences", "labelled")
  return not config.init_from and config.data.kind not in others


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in tiny.CONFIGS if learnable(n)])
def test_it_learns_from_context(name, text, tmp_path, monkeypatch):
  config = configuration.complete(configuration.load(f"{name}:tiny"))
  config |= dict(steps=STEPS, batch_size=32, microbatches=1)
  config["data"] = reading(config["data"], text)
  config["tokenizer"] = dict(config["tokenizer"], vocab_size=1024)
  if "vocab_size" in config["model"]:
    config["model"] = config["model"] | dict(vocab_size=1024)
  config["log"] = dict(config["log"], progress=False, tensorboard=False)
  config["checkpoint"] = dict(every=0, keep=1)
  config["evaluation"] = dict(every=0, batches=8)
  one = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, "make_mesh", one)
  prepared = run.prepare(config, tmp_path / "run", report=lambda line: None)
  trained = run.train(
    config, tmp_path / "run", report=lambda line: None, export=False
  )
  terms = trained.metrics
  found = next(terms[f"loss/{t}"] for t in TERMS if f"loss/{t}" in terms)
  least = entropy(prepared.plan.task)
  assert found < least, f"{found:.3f} nats, single tokens {least:.3f}"
