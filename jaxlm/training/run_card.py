"""The run card, `run.json`: what was run, on what, and what it cost."""

import datetime
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys
from typing import Any

import jax

from jaxlm import files, paths
from jaxlm.training import cost
from jaxlm.training.hooks import Hook, Moment
from jaxlm.training.plan import TrainingPlan
from jaxlm.training.workdir import plain

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "tokenizers",
  "seqio",
)


class RunCard(Hook):
  """Keeps `workdir/run.json` up to date.

  A session is the time from a start to a stop; the card adds them up, with
  the work that a kill undid, since it was paid for too.

  Args:
    workdir: where `run.json` is.
    plan: the run.
    state: a TrainState of arrays or shapes.
    compiled: the compiled step.
    start: the step that this session starts from.
    clock: seconds, from anywhere.
    every: steps between writes.
  """

  def __init__(
    self, workdir, plan: TrainingPlan, state, compiled, *, start, clock, every
  ):
    self.every = every
    self._path = pathlib.Path(workdir) / "run.json"
    self._plan = plan
    self._clock = clock
    self._begin = clock()
    self._fixed = _fixed(plan, state, compiled)
    self._earlier = _sessions(self._path)
    self._session: dict[str, Any] = {
      "started": _now(),
      "from_step": start,
      "to_step": start,
      "seconds": 0.0,
      "stopped": "killed",  # until this session says otherwise
    }
    self.card = self._write(None)

  def __call__(self, moment: Moment) -> None:
    self._session["to_step"] = moment.step
    if moment.reason:
      self._session["stopped"] = moment.reason
    self.card = self._write(moment)

  def fail(self, reason: str) -> None:
    """Notes that the session ended by an error."""
    self._session["stopped"] = reason
    self.card = self._write(None)

  def _write(self, moment: Moment | None) -> dict[str, Any]:
    self._session["seconds"] = self._clock() - self._begin
    sessions = [*self._earlier, self._session]
    resolved = cost.resolve(self._plan.rates, self._plan.mesh.devices.flat)
    paid = cost.bill(resolved, sum(s["seconds"] for s in sessions))
    card = {**self._fixed, "sessions": sessions, "cost": paid}
    if moment is not None:
      card |= _measured(moment, self._fixed["flops"], resolved)
    elif self._path.exists():
      old = json.loads(self._path.read_text(encoding="utf-8"))
      card |= {k: old[k] for k in _MEASURED if k in old}
    files.write_json(self._path, card)
    return card


_MEASURED = ("step", "finished", "throughput", "validation", "best")


def _fixed(plan: TrainingPlan, state, compiled) -> dict[str, Any]:
  resolved = cost.resolve(plan.rates, plan.mesh.devices.flat)
  loops = cost.has_loops(compiled)
  note = "XLA counts the body of a loop once" + (
    ", and this step has loops: read the formula." if loops else "."
  )
  return {
    **plain({"config": plan.config, "facts": plan.facts}),
    "git": git_state(),
    "versions": versions(),
    "devices": {
      "kind": resolved.device_kind,
      "count": resolved.devices,
      "mesh": dict(plan.mesh.shape),
      "processes": jax.process_count(),
    },
    "rates": resolved._asdict(),
    "parameters": paths.count(state.params),
    "memory": cost.memory(state, compiled)._asdict(),
    "flops": {
      "per_step_formula": plan.flops_per_step,
      "per_step_xla": cost.xla_flops(compiled),
      "xla_has_loops": loops,
      "note": note,
    },
  }


def _measured(moment: Moment, flops, resolved) -> dict[str, Any]:
  progress = moment.settle()
  seconds = max(progress.train_seconds, 1e-9)
  # The formula where there is one: XLA's count misses the turns of loops.
  source = "formula" if flops["per_step_formula"] else "xla"
  each = flops[f"per_step_{source}"]
  if source == "xla" and flops["xla_has_loops"]:
    each = None
  total = None if each is None else each * moment.step
  return {
    "step": moment.step,
    "finished": moment.last,
    "throughput": {
      "tokens": progress.tokens,
      "train_seconds": progress.train_seconds,
      "loop_seconds": progress.seconds,
      "tokens_per_second": progress.tokens / seconds,
      "steps_per_second": moment.step / seconds,
      "total_flops": total,
      "mfu": cost.mfu(total, seconds, resolved),
      "flops_source": source,
    },
    "validation": progress.validation,
    "best": {"loss": progress.best_loss, "step": progress.best_step},
  }


def versions() -> dict[str, str]:
  """Of Python, the platform and the packages that decide a result."""
  found = {"python": sys.version.split()[0], "platform": platform.platform()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def git_state() -> dict[str, Any] | None:
  """Commit of jaxlm's checkout and whether files differ from it, or None."""
  root = pathlib.Path(__file__).parents[2]
  if not (root / ".git").exists():
    return None  # an installed wheel

  def run(*words):
    return subprocess.run(
      ["git", "-C", str(root), *words],
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    ).stdout.strip()

  try:
    changed = run("status", "--porcelain", "--untracked-files=no")
    return {"commit": run("rev-parse", "HEAD"), "changed": bool(changed)}
  except (OSError, subprocess.SubprocessError):
    return None


def _sessions(path: pathlib.Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  return json.loads(path.read_text(encoding="utf-8")).get("sessions", [])


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
