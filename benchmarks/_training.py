"""What benchmarks that train have in common: runs, curves, cells of tables."""

import dataclasses
import math
import statistics
import time

import jax
import numpy as np

from benchmarks import _flops
from jaxlm import recipe, sharding
from jaxlm.training import cost, loop
from jaxlm.training import evaluate as evaluation
from jaxlm.training import state as states
from jaxlm.training.step import Clock, make_train_step


@dataclasses.dataclass
class Curve:
  """One seed: held-out losses on the way."""

  steps: list[int] = dataclasses.field(default_factory=list)
  losses: list[float] = dataclasses.field(default_factory=list)


class Runner:
  """A compiled step and evaluation of one config."""

  def __init__(self, config, prepared, args):
    self.args = args
    spec = recipe.model_spec(config, prepared.facts)
    self.plan = recipe.build(
      config,
      spec=spec,
      train=prepared.train,
      validation=prepared.validation,
      facts=prepared.facts,
    )
    plan = self.plan
    shapes = loop.abstract_state(plan)
    step = make_train_step(
      plan.model,
      plan.objective,
      plan.tx,
      schedule=plan.schedule,
      clip_norm=plan.clip_norm,
      mesh=plan.mesh,
      state=shapes,
    )
    batch = self.batch(0, 0)
    clock = Clock(np.int32(0), np.int32(0))
    try:
      self.flops = _flops.count(step, shapes, batch, clock)
    except ValueError:  # an optimizer's own loops
      self.flops = None
    self.step = step.lower(shapes, batch, clock).compile()
    self.state_bytes = cost.memory(shapes).optimizer
    self.bytes = cost.memory(shapes, self.step).total
    self.evaluate = evaluation.make_eval_step(
      plan.model, plan.objective, mesh=plan.mesh
    )

  def batch(self, seed, step):
    """A batch of the training task on the devices."""
    plan = self.plan
    return sharding.shard_batch(plan.task.batch_at(seed, step), plan.mesh)

  def fresh(self, seed: int):
    """A state with fresh parameters."""
    plan = self.plan
    return states.create(
      plan.model, plan.tx, plan.task.batch_spec, seed=seed, mesh=plan.mesh
    )

  def update(self, state, seed: int, number: int):
    """The state after the step of this number."""
    clock = Clock(np.int32(number), np.int32(number))
    return self.step(state, self.batch(seed, number), clock)[0]

  def measured(self, state) -> dict[str, float]:
    """Held-out losses and metrics of a state."""
    plan = self.plan
    return evaluation.evaluate(
      self.evaluate,
      plan.objective,
      state,
      plan.validation,
      plan.mesh,
      self.args.batches,
    )

  def train(self, seed: int) -> Curve:
    """Trains from fresh parameters, and evaluates on the way."""
    args, curve = self.args, Curve()
    state = self.fresh(seed)
    for number in range(args.steps):
      state = self.update(state, seed, number)
      if (number + 1) % args.every == 0 or number + 1 == args.steps:
        curve.steps.append(number + 1)
        curve.losses.append(self.measured(state)["loss"])
    return curve

  def trained(self, seed: int, steps: int):
    """(the state after so many steps from fresh parameters, its measures)."""
    state = self.fresh(seed)
    for number in range(steps):
      state = self.update(state, seed, number)
    return state, self.measured(state)


def race(runners: dict[str, Runner], rounds: int, steps: int) -> dict:
  """Seconds a step of each, side by side.

  In each round every runner takes `steps` steps, one runner after the other,
  so that what else the machine does falls on all.

  Returns:
    {name: [seconds of each round]}.
  """
  states_, found = {}, {name: [] for name in runners}
  for name, runner in runners.items():  # warm
    states_[name] = runner.update(runner.fresh(0), 0, 0)
  for turn in range(rounds):
    for name, runner in runners.items():
      state = jax.block_until_ready(states_[name])
      start = time.perf_counter()
      for number in range(steps):
        state = runner.update(state, 0, 1 + turn * steps + number)
      jax.block_until_ready(state)
      found[name].append((time.perf_counter() - start) / steps)
      states_[name] = state
  return found


def tuned(config, prepared, args, rates) -> dict:
  """Trains on all seeds at the best of the rates, told by the first seed.

  Returns:
    `rate`, `flops` and `bytes` of a step, `state_bytes` of the optimizer, and
    `curves`, plain data, one a seed.
  """
  found = {}
  for rate in rates:
    config["optimizer"]["learning_rate"] = rate
    runner = Runner(config, prepared, args)
    found[rate] = runner, [runner.train(0)]
  best = min(found, key=lambda rate: end(found[rate][1][0]))
  runner, curves = found[best]
  curves += [runner.train(seed) for seed in range(1, args.seeds)]
  return dict(
    rate=best,
    flops=runner.flops,
    bytes=runner.bytes,
    state_bytes=runner.state_bytes,
    curves=[dataclasses.asdict(curve) for curve in curves],
  )


def end(curve: Curve) -> float:
  """The last loss; infinity where it is not finite."""
  last = curve.losses[-1]
  return last if math.isfinite(last) else math.inf


def at(curve: dict, budget: float) -> float:
  """The loss after `budget` steps, between the evaluations by a line."""
  return float(np.interp(budget, curve["steps"], curve["losses"]))


def losses_at(result, budget):
  """The losses of all seeds after `budget` steps."""
  return [at(curve, budget) for curve in result["curves"]]


def mean_at(result, budget):
  """Their mean."""
  return statistics.fmean(losses_at(result, budget))


def cell(result, budget) -> str:
  """Their mean and standard deviation, for a table."""
  losses = losses_at(result, budget)
  spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
  return f"{statistics.fmean(losses):.3f} ± {spread:.3f}"


def unigram_entropy(task, batches: int) -> float:
  """Nats of the distribution of what is predicted: what no context can beat."""
  sparse = "predict_ids" in task.batch_spec
  ids = "predict_ids" if sparse else "targets"
  weights = "predict_weights" if sparse else "weights"
  counts: dict[int, float] = {}
  for step in range(batches):
    batch = task.batch_at(0, step)
    kept = batch[ids][batch[weights] > 0]
    for token, number in zip(*np.unique(kept, return_counts=True)):
      counts[int(token)] = counts.get(int(token), 0) + number
  shares = np.array(list(counts.values()), np.float64)
  shares /= shares.sum()
  return float(-np.sum(shares * np.log(shares)))


def ratios(result, first) -> list[float]:
  """Times of one to those of another, round by round."""
  return [a / b for a, b in zip(result["seconds"], first["seconds"])]


def ratio_cell(result, first) -> str:
  """Their median, least and most, for a table."""
  found = sorted(ratios(result, first))
  middle = statistics.median(found)
  return f"{middle:.2f}x ({found[0]:.2f} to {found[-1]:.2f})"
