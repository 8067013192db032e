"""jaxlm as a contender: packed rows, sparse predictions, one jitted step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import _documents
from configs import bert
from jaxlm import sharding
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.optimizers import optimizers
from jaxlm.schedules import schedules
from jaxlm.training import state as states
from jaxlm.training import step as steps


def contender(pool: _documents.Pool, size: str, options: dict) -> dict:
  """See `_workers.serve`."""
  batches = [
    _documents.packed_batch(pool, update, seed=0)
    for update in range(len(pool.rows))
  ]
  model, objective, tx, schedule = parts(pool, size, options)
  mesh = sharding.make_mesh()
  spec = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for key, value in batches[0].items()
  }
  held = {"state": states.create(model, tx, spec, seed=0, mesh=mesh)}
  step = steps.make_train_step(
    model,
    objective,
    tx,
    schedule=schedule,
    clip_norm=1.0,
    mesh=mesh,
    state=held["state"],
  )

  def run(batch) -> Callable[[], float]:
    placed = sharding.shard_batch(batch, mesh)
    held["state"], metrics = step(held["state"], placed)
    return lambda: float(metrics["loss"])

  device = jax.devices()[0]
  leaves = jax.tree.leaves(held["state"].params)
  return dict(
    run=run,
    batches=batches,
    tokens=[(batch["segments"] > 0).sum() for batch in batches],
    peak=_device_peak(device),
    parameters=sum(leaf.size for leaf in leaves),
    positions=sum(b["inputs"].size for b in batches),
    versions={"jax": jax.__version__},
    device=device.device_kind,
  )


def parts(pool: _documents.Pool, size: str, options: dict):
  """Model, objective, optimizer and schedule after configs/bert.py."""
  config = bert.get_config(size)
  spec = config.model.to_dict()
  spec["heads"] = {"masked_lm": spec["heads"]["masked_lm"]}
  spec["stack"] = {"kind": "sequential"}
  model = assembly.build(
    spec,
    vocab_size=pool.vocab_size,
    dtype=jnp.bfloat16 if options["bfloat16"] else jnp.float32,
  )
  schedule = schedules.build(
    config.schedule.to_dict(), learning_rate=1e-4, steps=100_000
  )
  tx = optimizers.build(
    {"kind": "adamw", "learning_rate": schedule, "weight_decay": 0.01}
  )
  return model, objectives.build({"kind": "masked_lm"}), tx, schedule


def _device_peak(device) -> Callable[[], int] | None:
  if device.platform == "cpu":
    return None
  return lambda: int(device.memory_stats()["peak_bytes_in_use"])
