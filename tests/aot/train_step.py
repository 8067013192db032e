"""jaxlm's train step over a mesh of devices that are not there."""

import jax
import jax.numpy as jnp

from configs import bert
from jaxlm import sharding
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.optimizers import optimizers
from jaxlm.schedules import schedules
from jaxlm.training import state as states
from jaxlm.training import step as steps
from pallas_kernels.testing import aot

ROWS, LENGTH, PREDICTIONS, VOCABULARY = 32, 256, 32, 1024
LAYERS, HEADS, HEAD_DIM = 4, 4, 64  # of the "mini" BERT


def compile_step(target: str, implementation: str) -> aot.Program:
  """A 4-layer BERT's step on data 2 x fsdp 2 x tensor 2 devices.

  Args:
    target: what it is compiled for.
    implementation: of attention.
  """
  mesh = sharding.make_mesh(
    data=2, fsdp=2, tensor=2, devices=aot.devices(target, 8)
  )
  model, objective, tx, schedule = _parts(implementation)
  batch = _batch(mesh)
  state = states.abstract(model, tx, batch, mesh)
  step = steps.make_train_step(
    model,
    objective,
    tx,
    schedule=schedule,
    clip_norm=1.0,
    mesh=mesh,
    state=state,
  )
  return aot.compile_for(target, step, (state, batch), axes=mesh)


def _parts(implementation):
  spec = bert.get_config("mini").model.to_dict()
  spec["depth"] = LAYERS
  spec["heads"] = {"masked_lm": spec["heads"]["masked_lm"]}
  spec["layers"]["layer"]["mixer"]["implementation"] = implementation
  model = assembly.build(spec, vocab_size=VOCABULARY, dtype=jnp.bfloat16)
  schedule = schedules.build(
    {"kind": "linear", "warmup": 0.01}, learning_rate=1e-4, steps=1000
  )
  tx = optimizers.build({"kind": "adamw", "learning_rate": schedule})
  return model, objectives.build({"kind": "masked_lm"}), tx, schedule


def _batch(mesh):
  """Shapes of packed rows, split over `data` and `fsdp`."""
  tokens, chosen = (ROWS, LENGTH), (ROWS, PREDICTIONS)
  shapes = dict(
    inputs=tokens,
    segments=tokens,
    positions=tokens,
    types=tokens,
    predict_positions=chosen,
    predict_ids=chosen,
    predict_weights=chosen,
  )
  place = sharding.batch_sharding(mesh)
  return {
    name: jax.ShapeDtypeStruct(
      shape,
      jnp.float32 if name.endswith("weights") else jnp.int32,
      sharding=place,
    )
    for name, shape in shapes.items()
  }
