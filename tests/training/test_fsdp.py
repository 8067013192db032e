"""What fsdp must not do: split activations by features instead of rows."""

import jax
import jax.numpy as jnp

from jaxlm import sharding
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.training import loop
from jaxlm.types import Task
from tests import tiny
from tests.training import runs

ROWS, LENGTH = 64, 64


def activation_bytes(**mesh):
  """Temporary memory of one device in a step of a scanned encoder."""
  dense = tiny.model_spec(
    order=("layer",) * 2,
    stack=dict(kind="scan"),
    heads=dict(causal_lm=dict(kind="causal_lm")),
  )
  whole = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
  spec = dict.fromkeys(("inputs", "segments", "positions", "targets"), whole)
  spec["weights"] = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.float32)
  plan = runs.make(
    model=assembly.build(dense),
    objective=objectives.build(dict(kind="causal_lm")),
    task=Task("shapes", spec, None, ROWS),
    mesh=sharding.make_mesh(**mesh),
    microbatches=1,
  )
  compiled = loop.compile_step(plan, loop.abstract_state(plan))
  return compiled.memory_analysis().temp_size_in_bytes


def test_fsdp_needs_no_more_memory_for_activations_than_data():
  # Left to itself, XLA needs about twice as much.
  assert activation_bytes(data=1, fsdp=8) < 1.2 * activation_bytes(data=8)
