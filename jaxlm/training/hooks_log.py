"""Metrics on disk: `metrics.jsonl` and TensorBoard."""

import json
import math
import pathlib

from jaxlm import files
from jaxlm.training.hooks import Hook, Moment


class Log(Hook):
  """Writes one line a logged step to `metrics.jsonl`.

  Lines after the step that a run resumes from are taken away first, so that
  no step appears twice.

  Args:
    workdir: where `metrics.jsonl` and `tensorboard/` are.
    every: steps between lines.
    start: the step that this session starts from.
    tensorboard: also write TensorBoard events.
  """

  def __init__(
    self, workdir, every: int, start: int, *, tensorboard: bool = True
  ):
    workdir = pathlib.Path(workdir)
    self.every = every
    path = workdir / "metrics.jsonl"
    keep_until(path, start)
    self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    self._board = None
    if tensorboard:
      from tensorboardX import SummaryWriter

      self._board = SummaryWriter(
        str(workdir / "tensorboard"), purge_step=start + 1
      )
    self._time = None

  def wants(self, moment: Moment) -> bool:
    """At its steps, and wherever there was an evaluation."""
    return super().wants(moment) or moment.evaluated

  def __call__(self, moment: Moment) -> None:
    line = line_of(moment)
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    if self._board is None:
      return
    for name, value in line.items():
      if name != "step" and value is not None:
        place = name if "/" in name else f"train/{name}"
        self._board.add_scalar(place, value, moment.step)
    self._board.flush()

  def close(self) -> None:
    """Closes the files."""
    self._file.close()
    if self._board is not None:
      self._board.close()


def line_of(moment: Moment) -> dict[str, float | None]:
  """A logged step as plain numbers; None where one is not finite."""
  metrics = moment.metrics()
  progress = moment.settle()
  line = {"step": moment.step, **metrics}
  if "tokens" in line:
    line["tokens"] = progress.tokens
  if moment.evaluated:
    line |= {f"validation/{k}": v for k, v in progress.validation.items()}
  line["tokens_per_second"] = progress.tokens / max(
    progress.train_seconds, 1e-9
  )
  line["seconds"] = round(progress.seconds, 3)
  return {k: v if math.isfinite(v) else None for k, v in line.items()}


def keep_until(path: pathlib.Path, step: int) -> None:
  """Drops lines after `step`, and a last line that was not finished."""
  if not path.exists():
    return
  kept = []
  for text in path.read_text(encoding="utf-8").splitlines():
    try:
      fits = json.loads(text)["step"] <= step
    except (ValueError, KeyError, TypeError):
      continue
    if fits:
      kept.append(text)
  with files.replacing(path) as file:
    file.writelines(text + "\n" for text in kept)
