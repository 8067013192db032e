"""Held-out loss and metrics of a state: exact means over many batches."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from jaxlm import sharding
from jaxlm.training.meter import LEAD
from jaxlm.training.step import gather, split_batch
from jaxlm.types import Task


def make_eval_step(
  model,
  objective,
  *,
  microbatches: int = 1,
  mesh: Mesh | None = None,
  places=None,
) -> Callable:
  """Makes `step(params, extra, batch) -> {name: (sum, weight)}`, jitted.

  Names are `loss/<term>` and the objective's metrics; no dropout.

  Args:
    model: a Linen module.
    objective: see docs/design.md.
    microbatches: parts of the batch that run one after the other, so that
      what fits in training fits here.
    mesh: keeps microbatches spread evenly over it.
    places: shardings of the parameters; see `step.make_value_and_grad`.
  """

  def one(params, extra, batch):
    # No randomness without training; objectives still expect a key.
    outcome = objective(
      model, {"params": params, **extra}, batch, jax.random.key(0), train=False
    )
    weights = objective.weights(batch)
    sums = {f"loss/{t}": (s, weights[t]) for t, s in outcome.sums.items()}
    return sums | dict(outcome.metrics)

  def step(params, extra, batch):
    params = gather(params, places)
    if microbatches == 1:
      return one(params, extra, batch)
    parts = split_batch(batch, microbatches, mesh)
    sums = jax.lax.map(lambda part: one(params, extra, part), parts)
    return jax.tree.map(lambda x: x.sum(axis=0), sums)

  return jax.jit(step)


def batches_of(task: Task, limit: int) -> int:
  """How many batches an evaluation reads: `limit`, or one epoch if fewer.

  A limit of 0 reads the epoch. The rows of a last, incomplete batch are left
  out, unless there is no other.
  """
  rows = next(iter(task.batch_spec.values())).shape[0]
  epoch = max(task.rows // rows, 1)
  return min(limit, epoch) if limit else epoch


def evaluate(
  eval_step, objective, state, task: Task, mesh: Mesh, batches: int = 0
) -> dict[str, float]:
  """Means over `batches` batches of a task (0: one epoch), always the same.

  Returns:
    `loss`, `loss/<term>` and the objective's metrics.
  """
  rows = next(iter(task.batch_spec.values())).shape[0]
  shard = sharding.process_shard(mesh, rows)
  parts = []
  for index in range(batches_of(task, batches)):
    batch = sharding.shard_batch(task.batch_at(0, index, shard=shard), mesh)
    parts.append(eval_step(state.params, state.extra, batch))
    if len(parts) > LEAD:  # bounds the batches that wait on the device
      jax.block_until_ready(parts[-LEAD])
  totals: dict[str, np.ndarray] = {}
  for part in jax.device_get(parts):
    for name, pair in part.items():
      # float64 on the host: sums over many batches stay exact.
      totals[name] = totals.get(name, 0) + np.asarray(pair, np.float64)
  result = {k: float(s / w) if w else 0.0 for k, (s, w) in totals.items()}
  loss = sum(
    value * float(objective.coefficients.get(name.removeprefix("loss/"), 1.0))
    for name, value in result.items()
    if name.startswith("loss/")
  )
  return {"loss": float(loss), **result}
