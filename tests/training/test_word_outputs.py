"""ELMo-C and its rivals in the real loop, on text."""

import functools
import gzip

import jax
import numpy as np
import pytest

from jaxlm import configuration, errors, run, sharding
from jaxlm.data import word_vectors
from jaxlm.objectives import _continuous
from jaxlm.training import loop
from jaxlm.training.hooks import Every
from tests import tiny
from tests.training import runs

pytestmark = pytest.mark.slow
VARIANTS = ("tiny", "tiny_transformer", "tiny_sampled", "tiny_adaptive")


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  one = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, "make_mesh", one)


def config_of(variant, files, vocab=512, **changes):
  config = configuration.complete(configuration.load(f"elmo_c:{variant}"))
  config |= changes
  config["data"] |= dict(files=str(files), validation_share=0.1)
  config["tokenizer"] |= dict(vocab_size=vocab)
  config["log"] |= dict(every=2, progress=False, tensorboard=False)
  config["evaluation"] = dict(every=0, batches=8)
  return config


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  random = np.random.default_rng(0)
  chance = 1 / np.arange(1, 401)
  some = [f"w{n}x{n % 7}" for n in range(400)]
  pick = lambda: random.choice(some, 30, p=chance / chance.sum())
  path = tmp_path_factory.mktemp("words") / "a.txt"
  path.write_text("\n\n".join(" ".join(pick()) for _ in range(200)))
  return path


class Crash(Exception):
  pass


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_a_crashed_run_goes_on_to_the_same_bits(variant, words, tmp_path):
  """And what it left is judged by its nearest words, where it has vectors."""
  config = config_of(
    variant,
    words,
    steps=6,
    batch_size=8,
    microbatches=2,
    checkpoint=dict(every=2, keep=2),
  )
  quiet = lambda line: None
  plan = run.prepare(config, tmp_path / "data", report=quiet).plan

  def crash(moment):
    if moment.step == 3:
      raise Crash

  whole = loop.train(plan, tmp_path / "whole")
  with pytest.raises(Crash):
    loop.train(plan, tmp_path / "cut", hooks=[Every(1, crash)])
  assert runs.outcome(loop.train(plan, tmp_path / "cut")) == runs.outcome(whole)
  if variant != "tiny_transformer":
    return
  run.train(config, tmp_path / "data", report=quiet, export=False)
  found = run.neighbours(tmp_path / "data", report=quiet)
  table = word_vectors.table(tmp_path / "data")
  assert found["candidates"] == len(table) - 1
  assert 0 <= found["accuracy@1"] <= found["accuracy@10"] <= 1
  with pytest.raises(errors.UserError, match="not trained on words"):
    run.save(tmp_path / "bare", *tiny_gpt())
    run.neighbours(tmp_path / "bare")


def tiny_gpt():
  """The spec and parameters of a model that knows nothing of vectors."""
  layer = tiny.layer(mixer=dict(causal=True))
  spec = tiny.model_spec(kind="decoder", layers=dict(layer=layer))
  return spec, tiny.build(spec)[1]["params"]


@pytest.fixture(scope="module")
def stories(shared, tmp_path_factory):
  source = shared / "text" / "tinystories" / "train.txt.gz"
  file = tmp_path_factory.mktemp("text") / "stories.txt"
  file.write_bytes(gzip.decompress(source.read_bytes()))
  return file


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns_from_context(variant, stories, tmp_path):
  """More than any constant prediction could, on held-out words.

  The vector that has the largest mean cosine with all words points where
  their mean does, and has the mean's length for its mean cosine; the word
  that is most often right is the commonest; of log p, the best constant gives
  the entropy.
  """
  config = config_of(variant, stories, vocab=1024, batch_size=32)
  config["checkpoint"] = dict(every=0, keep=1)
  quiet = lambda line: None
  prepared = run.prepare(config, tmp_path / "run", report=quiet)
  trained = run.train(config, tmp_path / "run", report=quiet, export=False)
  task = prepared.data.validation
  batches = [task.batch_at(0, step) for step in range(8)]
  ids = np.concatenate([b["targets"][b["weights"] > 0] for b in batches])
  shares = np.bincount(ids) / len(ids)
  if variant in ("tiny_sampled", "tiny_adaptive"):
    known = shares[shares > 0]
    least = -np.sum(known * np.log(known))
    assert trained.metrics["loss"] < least, (trained.metrics, least)
    return
  wanted = np.concatenate(
    [np.asarray(_continuous.vectors(b, 1))[b["weights"] > 0] for b in batches]
  )
  constant = np.linalg.norm(wanted.mean(axis=0))
  assert trained.metrics["cosine"] > constant, (trained.metrics, constant)
  found = run.neighbours(tmp_path / "run", report=quiet)
  assert found["accuracy@1"] > shares.max(), (found, shares.max())
