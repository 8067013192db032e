"""Plans of runs of two small towers on masked rows."""

import jax
import numpy as np

from configs import electra
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.training import plan
from jaxlm.types import Task
from tests.training import runs

VOCAB, ROWS, LENGTH, PREDICTIONS = 24, 8, 8, 2


def spec(sharing="shared", dropout=0.1) -> dict:
  """One layer a tower."""
  common = dict(depth=1, table_width=8, dropout=dropout, std=0.3)
  smaller = dict(stack=dict(kind="sequential"))
  smaller |= dict(positions=dict(kind="learned", max_length=LENGTH))
  generator = electra.tower("generator", 8, 1, **common) | smaller
  discriminator = electra.tower("discriminator", 16, 2, **common) | smaller
  return dict(
    kind="two_tower",
    sharing=sharing,
    vocab_size=VOCAB,
    towers=dict(generator=generator, discriminator=discriminator),
  )


def batch_at(seed, step, shard=(0, 1)):
  """Random rows whose last three places are padding in every other."""
  index, count = shard
  random = np.random.default_rng([seed, step])
  text = random.integers(4, VOCAB, (ROWS, LENGTH)).astype(np.int32)
  segments = np.ones_like(text)
  segments[::2, -3:] = 0
  places = random.permuted(np.tile(np.arange(5), (ROWS, 1)), axis=1)
  places = np.sort(places[:, :PREDICTIONS]).astype(np.int32)
  rows = np.arange(ROWS)[:, None]
  batch = dict(
    inputs=text * segments,
    segments=segments,
    predict_positions=places,
    predict_ids=text[rows, places],
    predict_weights=np.ones((ROWS, PREDICTIONS), np.float32),
  )
  batch["inputs"][rows, places] = 3
  part = slice(index * ROWS // count, (index + 1) * ROWS // count)
  return {key: value[part] for key, value in batch.items()}


def task(name="towers") -> Task:
  """The batches of `batch_at`."""
  shapes = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for key, value in batch_at(0, 0).items()
  }
  return Task(name, shapes, batch_at, 64)


def make(steps=6, sharing="shared", objective=None, **given):
  """A run; `given` replaces fields of the plan."""
  detect = {"kind": "replaced_token_detection"} | (objective or {})
  return runs.make(
    steps,
    **dict(
      model=assembly.build(spec(sharing)),
      objective=objectives.build(detect),
      task=task(),
      validation=task("held_out"),
      microbatches=1,
      checkpoint=plan.CheckpointSettings(every=2, keep=2),
      evaluation=plan.EvaluationSettings(every=3, batches=2),
    )
    | given,
  )
