"""Two directions that never see each other, and what they predict."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import elmo
from jaxlm import errors, interop, paths, recipe
from jaxlm.interop import description
from jaxlm.layers.heads.bidirectional_lm import directions
from jaxlm.models import assembly
from jaxlm.objectives import bidirectional_lm, objectives
from jaxlm.types import Task
from tests import tiny


def spec(**changes):
  tower = elmo.direction(tiny.WIDTH, 24, None)
  return (
    dict(
      kind="bidirectional_lm",
      width=tiny.WIDTH,
      vocab_size=tiny.VOCAB,
      embeddings=dict(kind="token"),
      towers=dict(forward=tower, backward=tower),
      heads=dict(bidirectional_lm=dict(kind="bidirectional_lm")),
    )
    | changes
  )


@functools.cache
def built():
  model = assembly.build(spec())
  return model, tiny.fill(tiny.shapes(model, tiny.batch()))


@jax.jit
def run(variables, batch):
  return built()[0].apply(variables, batch)


class Fixed:
  """A model that was run already."""

  def __init__(self, outputs):
    self.outputs = outputs

  def apply(self, variables, batch, **options):
    return self.outputs


def test_directions_do_not_meet():
  """What is not a number in one token's row reaches what sees the token."""
  model, variables = built()
  batch = {k: tiny.batch()[k] for k in ("segments", "positions")}
  batch["inputs"] = np.arange(32).reshape(2, 16).astype(np.int32)
  table = variables["params"]["embeddings"]["table"]

  @jax.jit
  @jax.vmap
  def reached(token):
    rows = table.at[token].set(jnp.nan)
    params = variables["params"] | {"embeddings": {"table": rows}}
    hidden = model.apply({"params": params}, batch)["hidden"]
    return jnp.isnan(directions(hidden)).any(-1)

  found = np.asarray(reached(jnp.arange(32))).reshape(2, 16, 2, 16, 2)
  place = np.arange(16)
  for row, segments in enumerate(tiny.SEGMENTS):
    same = segments[:, None] == segments[None, :]
    for way, order in enumerate((np.less_equal, np.greater_equal)):
      expected = same & order(place[:, None], place[None, :])
      real = segments > 0
      seen = found[row, :, row, :, way]
      np.testing.assert_array_equal(seen[:, real], expected[:, real])
      assert not found[1 - row, :, row, :, way].any()


def test_packed_documents_are_as_alone():
  _, variables = built()
  batch = tiny.batch()
  whole = run(variables, batch)["bidirectional_lm"]
  segments = np.zeros_like(tiny.SEGMENTS)
  inputs = np.zeros_like(segments)
  for row, documents in enumerate(tiny.SEGMENTS):
    second = np.flatnonzero(documents == 2)
    segments[row, : len(second)] = 1
    inputs[row, : len(second)] = batch["inputs"][row, second]
  alone = run(
    variables,
    batch
    | dict(
      inputs=inputs, segments=segments, positions=tiny.positions(segments)
    ),
  )["bidirectional_lm"]
  np.testing.assert_allclose(
    np.asarray(whole)[tiny.SEGMENTS == 2],
    np.asarray(alone)[segments == 1],
    atol=1e-5,
  )


def test_the_loss_is_that_of_both_neighbours():
  _, variables = built()
  batch = tiny.batch()
  inputs, segments = batch["inputs"], batch["segments"]
  same = np.pad(segments[:, 1:] == segments[:, :-1], ((0, 0), (0, 1)))
  batch["targets"] = np.pad(inputs[:, 1:], ((0, 0), (0, 1)))
  batch["weights"] = (same & (segments > 0)).astype(np.float32)
  objective = objectives.build({"kind": "bidirectional_lm"})
  outputs = run(variables, batch)

  @jax.jit
  def judged(outputs, batch):
    return objective(Fixed(outputs), None, batch, None, train=False)

  outcome = judged(outputs, batch)
  log = np.asarray(outputs["bidirectional_lm"], np.float64)
  log -= np.log(np.exp(log).sum(-1, keepdims=True))
  total, count = 0.0, 0
  for row in range(2):
    for t in range(15):
      if segments[row, t] and segments[row, t] == segments[row, t + 1]:
        total -= log[row, t, 0, inputs[row, t + 1]]
        total -= log[row, t + 1, 1, inputs[row, t]]
        count += 2
  assert objective.weights(batch)["bidirectional_lm"] == count
  assert outcome.sums["bidirectional_lm"] == pytest.approx(total, rel=1e-5)
  assert outcome.metrics["accuracy"][1] == count
  halves = [outcome.metrics[f"{way}_loss"] for way in ("forward", "backward")]
  assert sum(float(h[0]) for h in halves) == pytest.approx(total, rel=1e-5)
  labels, weights = bidirectional_lm.answers(batch)
  assert labels.shape == weights.shape == (2, 16, 2)


def test_elmo_c_has_as_many_trained_parameters_as_told():
  """76M with its maps of 300 numbers to states and back, for each way."""
  config = elmo.get_config("elmo_c").model.to_dict() | dict(vocab_size=8)
  shapes = recipe.shapes(assembly.build(config))
  towers = paths.count({k: shapes[k] for k in ("forward", "backward")})
  layer = 4 * 4096 * (512 + 512 + 1) + 4096 * 512 + 2 * 512
  assert towers == 4 * layer
  maps = 2 * (300 * 512 + 512) + 2 * (512 * 300 + 300)
  assert round((towers + maps) / 1e6) == 76


def test_flops_count_both_predictions():
  shapes = recipe.shapes(assembly.build(spec()))
  array = jax.ShapeDtypeStruct((2, 16), jnp.int32)
  task = Task("a", {"inputs": array, "targets": array}, None, 2)
  without = recipe.flops_per_step(spec(), shapes, task)
  single = Task("a", {"inputs": array}, None, 2)
  table = tiny.VOCAB * tiny.WIDTH + tiny.VOCAB  # and the output's bias
  body = recipe.flops_per_step(spec(), shapes, single)
  assert without - body == 6 * table * 2 * 32


def changed(name, **fields):
  towers = spec()["towers"]
  return spec(towers=towers | {name: towers[name] | fields})


NARROW = changed("backward", width=16)
LOOKING = tiny.layer(mixer=dict(heads=4))


@pytest.mark.parametrize(
  "wrong, words",
  [
    (NARROW, "backward.width is 16 and config.model.width 32"),
    (
      changed("forward", layers=dict(a=LOOKING), order=("a",)),
      "towers.forward.layers.a.mixer is not causal",
    ),
    (spec(embeddings=dict(kind="trigram")), "reads the next token"),
    (spec(towers={"forward": {}}), "it needs forward and backward"),
    (
      changed(
        "forward",
        layers=dict(
          a=dict(
            block=dict(kind="mixer_only"),
            mixer=dict(kind="lstm", cells=4),
            feedforward=dict(kind="mlp", hidden=4),
          )
        ),
        order=("a",),
      ),
      "block 'mixer_only' has none: leave it out",
    ),
  ],
)
def test_what_makes_no_such_model(wrong, words):
  with pytest.raises(errors.UserError, match=words):
    assembly.build(wrong)


def test_a_tied_output_needs_a_table():
  model = assembly.build(spec(embeddings=dict(kind="subword_vectors")))
  with pytest.raises(errors.UserError, match="tied=False"):
    tiny.shapes(model, tiny.batch())


def test_no_file_holds_it():
  with pytest.raises(interop.NotExportable):
    description.describe(spec())
