"""The loop: from a plan and a folder to a trained state, however interrupted.

Steps are dispatched ahead of the device and nothing is fetched until a hook
asks. What a step does is a function of (seed, step) and the state alone, so a
run that was killed goes on from its newest checkpoint to the same parameters.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlm import errors, sharding
from jaxlm.training import checkpoint as checkpointing
from jaxlm.training import disk
from jaxlm.training import evaluate as evaluation
from jaxlm.training import state as states
from jaxlm.training import workdir as workdirs
from jaxlm.training.feed import Feed, batch_hash
from jaxlm.training.hooks import Every, Hook, Moment, Progress, Watch
from jaxlm.training.hooks_log import Log
from jaxlm.training.hooks_progress import ProgressBar
from jaxlm.training.hooks_save import Evaluate, Save
from jaxlm.training.meter import Meter, NonFinite
from jaxlm.training.plan import TrainingPlan
from jaxlm.training.run_card import RunCard
from jaxlm.training.signals import Stop, agree
from jaxlm.training.state import TrainState
from jaxlm.training.step import Clock, make_train_step


class Result(NamedTuple):
  """How a session ended.

  Attributes:
    state: the state where it ended.
    step: its step.
    finished: whether the run is complete.
    reason: "finished", "SIGTERM" or "SIGINT"; "finished before" where there
      was nothing left to do.
    metrics: means of the last logged steps; {} if none were.
    validation: newest means on held-out batches, or None.
    card: what `run.json` holds, {} on processes that do not write it.
  """

  state: TrainState
  step: int
  finished: bool
  reason: str
  metrics: Mapping[str, float]
  validation: Mapping[str, float] | None
  card: Mapping[str, Any]


def train(
  plan: TrainingPlan,
  workdir,
  *,
  hooks: Sequence[Hook] = (),
  clock: Callable[[], float] = time.monotonic,
) -> Result:
  """Trains until the plan's end, from the newest checkpoint if there is one.

  Args:
    plan: the run.
    workdir: its folder; see docs/design.md for what is in it.
    hooks: run after the built-in ones.
    clock: seconds, from anywhere.

  Raises:
    UserError: the folder belongs to another config or is in use, its
      checkpoint is damaged, the batch does not divide the mesh, the disk is
      full, or a loss was not finite.
  """
  workdir = pathlib.Path(workdir)
  sharding.check_batch(plan.batch_size, plan.mesh, plan.microbatches)
  with contextlib.ExitStack() as stack:
    stack.enter_context(_full_disk(workdir))
    if _writes():
      workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(workdirs.lock(workdir))
      workdirs.claim(workdir, plan.config)
    checkpoints = checkpointing.Checkpoints(
      workdir / "checkpoints", plan.checkpoint.keep
    )
    stack.callback(checkpoints.close)
    stop = stack.enter_context(Stop())
    state, progress = _start(plan, checkpoints)
    step = int(state.step)
    if plan.duration.over(step, progress.seconds):
      return Result(
        state, step, True, "finished before", {}, progress.validation, {}
      )
    return _run(plan, workdir, state, progress, checkpoints, stop, hooks, clock)


def compile_step(plan: TrainingPlan, state: TrainState):
  """The train step of a plan, compiled for the shapes and places of `state`."""
  step = make_train_step(
    plan.model,
    plan.objective,
    plan.tx,
    schedule=plan.schedule,
    microbatches=plan.microbatches,
    clip_norm=plan.clip_norm,
    mesh=plan.mesh,
    state=state,
  )
  place = sharding.batch_sharding(plan.mesh)
  batch = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=place)
    for key, value in plan.task.batch_spec.items()
  }
  return step.lower(state, batch, _clock(plan, 0, 0.0)).compile()


def abstract_state(plan: TrainingPlan) -> TrainState:
  """Shapes and places of a plan's state; computes nothing."""
  return states.abstract(
    plan.model, plan.tx, plan.task.batch_spec, plan.mesh, plan.rules
  )


def _start(plan, checkpoints) -> tuple[TrainState, Progress]:
  if checkpoints.newest() is None:
    state = states.create(
      plan.model,
      plan.tx,
      plan.task.batch_spec,
      seed=plan.seed,
      mesh=plan.mesh,
      rules=plan.rules,
      params=plan.params,
    )
    return state, Progress()
  restored = checkpoints.restore(abstract_state(plan))
  return restored.state, Progress(**restored.meta["progress"])


def _run(plan, workdir, state, progress, checkpoints, stop, hooks, clock):
  start = int(state.step)
  compiled = compile_step(plan, state)
  with contextlib.ExitStack() as stack:
    card = None
    if _writes():
      card = RunCard(
        workdir,
        plan,
        state,
        compiled,
        start=start,
        clock=clock,
        every=plan.checkpoint.every,
      )
    every = [*_hooks(plan, workdir, checkpoints, state, card), *hooks]
    for hook in every:
      stack.callback(hook.close)
    watch = Watch(clock, progress)
    meter = Meter(progress.tokens)
    try:
      moment = _steps(
        plan, state, compiled, progress, meter, watch, stop, every
      )
    except NonFinite as found:
      if card:
        card.fail(f"not finite at step {found.step}")
      checkpoints.wait()
      raise _not_finite(plan, checkpoints, found.step) from None
    return Result(
      moment.state,
      moment.step,
      moment.last,
      moment.reason,
      moment.metrics(),
      progress.validation,
      card.card if card else {},
    )


def _steps(plan, state, compiled, progress, meter, watch, stop, hooks):
  """Runs steps until the end or a signal; the last moment."""
  elapsed, moment = progress.seconds, None
  feed = Feed(
    plan.task, plan.seed, int(state.step), plan.duration.steps, plan.mesh
  )
  with feed:
    for step, batch in feed:
      state, metrics = compiled(state, batch, _clock(plan, step, elapsed))
      meter.add(step, metrics)
      asked, elapsed = _ask(plan, step + 1, stop, watch, elapsed)
      progress.seconds = elapsed
      reason = stop.requested or "SIGTERM" if asked else None
      if plan.duration.over(step + 1, elapsed):
        reason = "finished"
      moment = Moment(step + 1, state, meter, progress, watch, reason)
      for hook in hooks:
        if hook.wants(moment):
          hook(moment)
      if reason:
        return moment
  raise RuntimeError("the feed ended before the run")


def _ask(plan, step, stop, watch, elapsed):
  """(stop?, elapsed seconds), the same on all processes."""
  if jax.process_count() > 1 and step % max(plan.log.every, 1):
    # Asking the others costs a round trip: at log steps alone.
    return False, elapsed
  return agree(stop.requested is not None, watch.seconds())


def _clock(plan, step: int, elapsed: float) -> Clock:
  at = plan.duration.schedule_step(step, elapsed)
  kind = np.int32 if plan.duration.steps is not None else np.float32
  return Clock(np.int32(step), kind(at))


def _hooks(plan, workdir, checkpoints, state, card) -> list[Hook]:
  """The built-in hooks, in the order in which they need each other."""
  start = int(state.step)
  hooks: list[Hook] = []
  if plan.validation is not None:
    hooks.append(Evaluate(plan.evaluation.every, _measure(plan, state)))
  log = plan.log
  if _writes():
    hooks.append(Log(workdir, log.every, start, tensorboard=log.tensorboard))
  else:
    # Reads where process 0 does, so that all return the same means.
    hooks.append(Every(log.every, Moment.metrics))
  about = workdirs.plain({"config": plan.config, "facts": plan.facts})
  hooks.append(Save(plan.checkpoint.every, checkpoints, about))
  if card is not None:
    hooks.append(card)
  if _writes() and plan.log.progress:
    hooks.append(ProgressBar(plan.duration, plan.log.every, start))
  return hooks


def _measure(plan, state):
  task = plan.validation
  rows = next(iter(task.batch_spec.values())).shape[0]
  sharding.check_batch(rows, plan.mesh)
  unit = sharding.batch_ways(plan.mesh) * plan.microbatches
  step = evaluation.make_eval_step(
    plan.model,
    plan.objective,
    microbatches=1 if rows % unit else plan.microbatches,
    mesh=plan.mesh,
    places=states.shardings_of(state.params),
  )
  return lambda state: evaluation.evaluate(
    step, plan.objective, state, task, plan.mesh, plan.evaluation.batches
  )


def _not_finite(plan, checkpoints, step: int) -> errors.UserError:
  digest = batch_hash(plan.task.batch_at(plan.seed, step))
  newest = checkpoints.newest()
  good = (
    "There is no checkpoint before it"
    if newest is None
    else f"The last good checkpoint is {checkpoints.folder / str(newest)}"
  )
  return errors.UserError(
    f"The loss or a gradient is not finite at step {step} (batch sha256 "
    f"{digest[:16]}). {good}; nothing was overwritten. A lower "
    "config.optimizer.learning_rate, a longer warm-up or config.clip_norm "
    "usually help; 'jaxlm data --step' shows the batch."
  )


@contextlib.contextmanager
def _full_disk(workdir):
  try:
    yield
  except OSError as error:
    if not disk.is_disk_full(error):
      raise
    raise errors.UserError(
      f"No space left on the disk of {workdir}. Checkpoints that are complete "
      "are untouched; free some space and run the same command again."
    ) from error


def _writes() -> bool:
  return jax.process_index() == 0
