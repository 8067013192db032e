"""The report of a training run, from what its workdir records."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxlm import errors
from jaxlm.reports import figures
from jaxlm.reports.page import write_report
from jaxlm.reports.sections import (
  Facts,
  Figure,
  Listing,
  Section,
  Table,
  lines,
)

# Metric -> (title, axis); others are drawn after these, under their own name.
_KNOWN = {
  "loss": ("Loss", "loss (nats)"),
  "accuracy": ("Accuracy", "share right"),
  "learning_rate": ("Learning rate", "learning rate"),
  "tokens_per_second": ("Speed", "tokens per second"),
  "grad_norm": ("Gradient norm", "before clipping"),
}
_FROM_ZERO = ("learning_rate", "tokens_per_second", "accuracy")
_COSTS = {
  "device_hours": "Device-hours",
  "dollars": "US dollars",
  "kwh": "kWh",
  "kg_co2e": "kg CO2e",
}
_CLOCKS = ("step", "time", "seconds", "tokens", "finite")
_SPLITS = {"train": "training", "validation": "validation"}

Curves = dict[str, dict[str, tuple[list[float], list[float]]]]


def run_report(workdir, *, title: str = "") -> pathlib.Path:
  """Writes `workdir/report.html` from `metrics.jsonl` and `run.json`.

  It may be called at any time, also while the run goes on or after it was
  killed: what is missing is left out, and so is a half-written last line. The
  report is derived from these two files and replaces an older one.

  Args:
    workdir: of the run.
    title: the heading; the folder's name where empty.

  Returns:
    The path of the report.

  Raises:
    UserError: the folder has neither file, or `report.html` is not a report.
  """
  workdir = pathlib.Path(workdir)
  sections = run_sections(workdir)
  if not sections:
    raise errors.UserError(
      f"'{workdir}' is no workdir of a run: it has neither metrics.jsonl nor "
      "run.json."
    )
  return write_report(
    workdir / "report.html",
    title=title or f"Run {workdir.resolve().name}",
    subtitle=_subtitle(_card(workdir / "run.json")),
    sections=sections,
  )


def run_sections(workdir) -> list[Section]:
  """The sections of a run, for a page that shows more than the run."""
  workdir = pathlib.Path(workdir)
  card = _card(workdir / "run.json")
  curves = read_metrics(workdir / "metrics.jsonl")
  sections: list[Section] = []
  if card:
    sections.append(Facts("Summary", _summary(card)))
  elif curves:
    sections.append(_last(curves))
  sections += _figures(curves)
  if "config" in card:
    sections.append(Listing("Configuration", card["config"]))
  rest = {k: v for k, v in card.items() if k != "config"}
  if rest:
    sections.append(Listing("Everything recorded", lines(rest)))
  return sections


def read_metrics(path) -> Curves:
  """{metric: {split: (steps, values)}} of a metrics.jsonl.

  'train/loss' and 'loss' are the loss of 'train'; 'validation/loss' that of
  'validation'. Lines that are broken are skipped; a step that appears twice
  counts as it was written last.
  """
  found: dict[str, dict[str, dict[float, float]]] = {}
  for line in _json_lines(pathlib.Path(path)):
    step = line.get("step")
    if not _is_number(step):
      continue
    for key, value in line.items():
      split, _, metric = key.rpartition("/")
      first, _, rest = split.partition("/")
      if first in _SPLITS and rest:  # 'validation/loss/masked_lm'
        split, metric = first, f"{rest}/{metric}"
      elif split not in ("", *_SPLITS):
        split, metric = "", key
      if metric not in _CLOCKS and _is_number(value):
        by_step = found.setdefault(metric, {}).setdefault(split or "train", {})
        by_step[step] = value
  return {
    metric: {
      split: tuple(map(list, zip(*sorted(by_step.items()))))
      for split, by_step in splits.items()
    }
    for metric, splits in found.items()
  }


def _json_lines(path: pathlib.Path):
  if not path.is_file():
    return
  for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
    try:
      line = json.loads(text)
    except ValueError:
      continue
    if isinstance(line, dict):
      yield line


def _card(path: pathlib.Path) -> dict[str, Any]:
  if not path.is_file():
    return {}
  try:
    card = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise errors.UserError(f"'{path}' is not JSON: {error}") from error
  return card if isinstance(card, dict) else {}


def _figures(curves: Curves) -> list[Figure]:
  order = [m for m in _KNOWN if m in curves]
  order += sorted(m for m in curves if m not in _KNOWN)
  # A run of one objective has 'loss/<term>' equal to its 'loss'.
  terms = [m for m in order if m.startswith("loss/")]
  if len(terms) == 1:
    _merge(curves, terms[0])
    order.remove(terms[0])
  return [_figure(metric, curves[metric]) for metric in order]


def _merge(curves: Curves, term: str) -> None:
  for split, line in curves[term].items():
    curves.setdefault("loss", {}).setdefault(split, line)


def _figure(metric: str, splits) -> Figure:
  title, axis = _KNOWN.get(metric, (metric, metric))
  series = {
    _SPLITS.get(split, split): splits[split]
    for split in sorted(splits, key=lambda s: (s != "train", s))
  }
  half = metric != "loss"
  svg = figures.curves(
    series, y_label=axis, from_zero=metric in _FROM_ZERO, half=half
  )
  return Figure(title, svg, half=half)


def _last(curves: Curves) -> Table:
  rows = []
  for metric, splits in curves.items():
    title = _KNOWN.get(metric, (metric,))[0]
    for split, (xs, ys) in splits.items():
      rows.append([title, _SPLITS.get(split, split), xs[-1], ys[-1]])
  return Table("Last values", ["metric", "of", "step", "value"], rows)


def _subtitle(card: Mapping[str, Any]) -> str:
  sessions = card.get("sessions") or [{}]
  started = str(sessions[0].get("started", ""))[:16].replace("T", " ")
  devices = card.get("devices") or {}
  words = [f"started {started} UTC" if started else ""]
  if "kind" in devices:
    words.append(f"{devices.get('count', 1)} \u00d7 {devices['kind']}")
  return ", ".join(w for w in words if w)


def _summary(card: Mapping[str, Any]) -> dict[str, Any]:
  """What a run card says, most wanted first; what it lacks is left out."""
  found = {
    "Steps": _at(card, "step"),
    "Parameters": _at(card, "parameters"),
    "Best validation loss": _at(card, "best", "loss"),
    "Tokens, without padding": _at(card, "throughput", "tokens"),
    "Tokens per second": _at(card, "throughput", "tokens_per_second"),
    "Training seconds": _at(card, "throughput", "train_seconds"),
    "FLOPs": _at(card, "throughput", "total_flops"),
    "MFU": _at(card, "throughput", "mfu"),
  }
  found |= {
    f"Validation {name}": value
    for name, value in (card.get("validation") or {}).items()
    if "/" not in name
  }
  found |= {
    _COSTS.get(name, name): value
    for name, value in (card.get("cost") or {}).items()
  }
  found |= {
    "Device": _at(card, "devices", "kind"),
    "Devices": _at(card, "devices", "count"),
    "Commit": _commit(card.get("git")),
  }
  for name in ("python", "jax", "platform"):
    shown = "jax" if name == "jax" else name.capitalize()
    found[shown] = _at(card, "versions", name)
  return {k: v for k, v in found.items() if _is_told(v)}


def _commit(git) -> str | None:
  if not git or "commit" not in git:
    return None
  changed = " with changes" if git.get("changed") else ""
  return f"{git['commit'][:12]}{changed}"


def _at(card, *path):
  for key in path:
    card = card.get(key) if isinstance(card, Mapping) else None
  return card


def _is_told(value) -> bool:
  return value is not None and not isinstance(value, (Mapping, list))


def _is_number(value) -> bool:
  return (
    isinstance(value, (int, float))
    and not isinstance(value, bool)
    and math.isfinite(value)
  )
