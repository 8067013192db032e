"""Notes in the real loop: kept in checkpoints, equal on every mesh."""

import functools

import jax
import numpy as np
import pytest

from jaxlm import paths, recipe, sharding
from jaxlm.errors import UserError
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.training import loop
from jaxlm.training.hooks import Every
from jaxlm.training.step import make_value_and_grad
from jaxlm.types import Task
from tests import tiny
from tests.tiny import quick_compilation as quick_compilation
from tests.training import runs, towers

WORDS = 8


class Crash(Exception):
  pass


def crash(moment):
  if moment.step == 5:
    raise Crash


def batch_at(seed, step, shard=(0, 1)):
  """Rows of `towers`, a word of two tokens in each, at 5 and 6."""
  index, count = shard
  batch = towers.batch_at(seed, step, shard)
  rows = len(batch["inputs"])
  note = 1 + (np.arange(rows) + index * rows) % 4
  ids = np.zeros((rows, towers.LENGTH), np.int32)
  ids[1::2, 5:7] = note[1::2, None]  # even rows are shorter
  spans = np.zeros((rows, 2, 3), np.int32)
  spans[1::2, 0] = np.stack([note, 5 + 0 * note, 7 + 0 * note], 1)[1::2]
  return {**batch, "note_ids": ids, "note_spans": spans}


def task(name="notes"):
  shapes = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for key, value in batch_at(0, 0).items()
  }
  return Task(name, shapes, batch_at, 64)


def noted(tower):
  """A tower that takes notes as wide as its states and tables."""
  wide = dict(kind="factorized", types=2, table_width=16)
  same = dict(kind="token", types=2)
  return tower | dict(
    kind="note_taking_encoder",
    notes=dict(words=WORDS, reach=1, rate=0.5),
    embeddings=same if tower["width"] == 16 else wide,
  )


def spec():
  made = towers.spec()
  both = {name: noted(tower) for name, tower in made["towers"].items()}
  return made | dict(towers=both)


def encoder():
  """The discriminator's layers under a masked-LM head."""
  tower = noted(towers.spec()["towers"]["discriminator"])
  heads = dict(masked_lm=dict(kind="masked_lm"))
  return tower | dict(heads=heads, vocab_size=towers.VOCAB)


def make(**given):
  return towers.make(
    model=assembly.build(encoder()),
    task=task(),
    validation=task("held_out"),
    **{"objective": dict(kind="masked_lm")} | given,
  )


@pytest.mark.slow
def test_a_crashed_run_goes_on_to_the_same_notes(tmp_path):
  whole = loop.train(make(), tmp_path / "whole")
  with pytest.raises(Crash):
    loop.train(make(), tmp_path / "cut", hooks=[Every(1, crash)])
  again = loop.train(make(), tmp_path / "cut")
  assert runs.outcome(again) == runs.outcome(whole)
  found, expected = jax.device_get((again.state.extra, whole.state.extra))
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  # Two rows a step have notes 2 and 4 each; evaluation counts none.
  np.testing.assert_array_equal(
    expected["notes"]["uses"], [0, 12, 0, 12, 0, 0, 0, 0]
  )
  slots = paths.flatten(whole.state.opt_state)
  assert not any("notes" in path for path in slots)


@functools.cache
def variables():
  boxed = tiny.shapes(assembly.build(spec()), batch_at(0, 0))
  return boxed, tiny.fill(boxed)


def step(mesh=None, microbatches=1):
  """The gradients' aux: (notes, metrics) after one batch."""
  boxed, values = variables()
  batch = batch_at(0, 0)
  if mesh is not None:
    values = jax.device_put(values, sharding.state_shardings(boxed, mesh))
    batch = sharding.shard_batch(batch, mesh)
  detect = objectives.build({"kind": "replaced_token_detection"})
  run = make_value_and_grad(assembly.build(spec()), detect, microbatches, mesh)
  extra = {"notes": values["notes"]}
  (_, (extra, _)), _ = jax.jit(run)(
    values["params"], extra, batch, jax.random.key(1)
  )
  return jax.device_get(extra["notes"]["discriminator"])


def test_notes_are_those_of_the_whole_batch_on_any_mesh():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  one, many = step(), step(mesh)
  np.testing.assert_array_equal(many["uses"], one["uses"])
  np.testing.assert_array_equal(one["uses"], [0, 2, 0, 2, 0, 0, 0, 0])
  np.testing.assert_allclose(many["table"], one["table"], atol=1e-5)
  before = variables()[1]["notes"]["discriminator"]["table"]
  moved = np.abs(one["table"] - before).max(axis=1) > 1e-3
  np.testing.assert_array_equal(moved, one["uses"] > 0)


def test_the_table_is_spread_like_a_token_table():
  boxed, _ = variables()
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  places = sharding.state_shardings(boxed, mesh)["notes"]["discriminator"]
  assert tuple(places["table"].spec) == ("tensor", "fsdp")


def test_data_and_objectives_that_would_lose_the_notes_are_told():
  model = assembly.build(encoder())
  causal = objectives.build({"kind": "causal_lm"})
  with pytest.raises(
    UserError, match="'CausalLM' drops; .*keep them: masked_lm,"
  ):
    recipe.check_features(causal, model, task())
  masked = objectives.build({"kind": "masked_lm"})
  with pytest.raises(UserError, match="config.data.kind='noted'"):
    recipe.check_features(masked, model, towers.task())
  recipe.check_features(masked, model, task())
  with pytest.raises(UserError, match="know 9 rare words"):
    recipe.model_spec({"model": encoder()}, dict(vocab_size=24, notes=9))
