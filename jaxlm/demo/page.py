"""What the demo shows: one table on the terminal, and report.html."""

import pathlib
from typing import TYPE_CHECKING

from jaxlm.reports import (
  Example,
  Examples,
  Facts,
  Figure,
  Table,
  Text,
  figures,
  numbers,
  write_report,
)
from jaxlm.reports.run import run_sections

if TYPE_CHECKING:
  from jaxlm.demo.run import Measured


def show(console, measured: "Measured") -> None:
  """Prints the filled masks and the table of results."""
  console.print("\n[bold]Filled masks[/bold] of held-out sentences")
  for fill in measured.fills:
    guesses = ", ".join(f"{word} {p:.0%}" for word, p in fill.candidates)
    console.print(f"  {fill.text}", markup=False, highlight=False)
    console.print(
      f"    {guesses}   (stood there: {fill.word})",
      markup=False,
      highlight=False,
    )
  console.print()
  console.print(summary(measured).rich())


def summary(measured: "Measured") -> Table:
  """Every number of the demo, with its error where it has one."""
  run, cost = measured.run, measured.run["cost"]
  speed = run["throughput"]
  rates = run["rates"]
  mfu = speed["mfu"]
  rows = [
    (f"{split} loss, nats a token", loss)
    for split, loss in measured.losses.items()
  ]
  rows += [
    (
      f"real sentences preferred, {name} ({found.count} pairs)",
      numbers.with_error(found.share, found.error),
    )
    for name, found in measured.preference.items()
  ]
  rows += [
    (
      f"module task, {name} ({found.count} texts)",
      numbers.with_error(found.share, found.error),
    )
    for name, found in measured.modules.items()
  ]
  rows += [
    ("module task, commonest module", measured.majority),
    ("largest logit difference after export", measured.difference),
    ("parameters", run["parameters"]),
    ("tokens trained on, without padding", speed["tokens"]),
    ("tokens per second", speed["tokens_per_second"]),
    ("FLOPs", speed["total_flops"]),
    ("MFU", "peak of this device unknown" if mfu is None else mfu),
  ]
  rows += [
    (f"seconds, {stage}", spent) for stage, spent in measured.seconds.items()
  ]
  rows += [
    ("US dollars of pre-training", cost["dollars"]),
    ("kg CO2e of pre-training", cost["kg_co2e"]),
  ]
  note = (
    f"Errors are standard errors over the items of one run. Rates: "
    f"${rates['dollars_per_device_hour']} and {rates['watts_per_device']} W a "
    f"device-hour, {rates['kg_co2e_per_kwh']} kg CO2e a kWh (config.cost)."
  )
  return Table("What was measured", ["measure", "value"], rows, note)


def write(path, measured: "Measured", workdir) -> pathlib.Path:
  """Writes report.html.

  Args:
    path: where.
    measured: the results.
    workdir: of pre-training, for its curves.
  """
  mask = "[MASK]"
  preferred = {
    name: (found.share, found.error)
    for name, found in measured.preference.items()
  }
  modules = {
    name: (found.share, found.error) for name, found in measured.modules.items()
  }
  sections = [
    Text(
      "",
      "A small encoder learned from the documentation that this Python "
      "carries: docstrings of the standard library and the language "
      "reference. All of it ran on this machine; nothing was downloaded.",
    ),
    summary(measured),
    Figure(
      "Word order",
      figures.bars(
        preferred,
        x_label="share of real sentences preferred (bars: standard error)",
        reference=("chance", 0.5),
      ),
      "A held-out sentence beside the same with two neighbouring words "
      "swapped: how often the real one has the higher pseudo-log-likelihood.",
    ),
    Examples(
      "Filled masks",
      [
        Example(fill.text, fill.candidates, fill.word, mask)
        for fill in measured.fills
      ],
      "Sentences of files that the model has not seen; the marked word was "
      "hidden.",
    ),
    Figure(
      "Which module is a docstring from?",
      figures.bars(
        modules,
        x_label="accuracy on unseen files (bars: standard error)",
        reference=("commonest module", measured.majority),
      ),
      "The same model fine-tuned with and without pre-training, beside word "
      "counts; reported as measured, whichever wins.",
    ),
    Facts("Material", _material(measured.counts)),
    *run_sections(workdir),
  ]
  return write_report(
    path,
    title="jaxlm demo",
    subtitle="Pre-trained, judged, fine-tuned and exported on this machine.",
    sections=sections,
  )


def _material(counts) -> dict[str, str]:
  told = {
    name: ", ".join(f"{split} {n:,}" for split, n in counts[name].items())
    for name in ("texts", "files", "characters", "examples")
  }
  return told | {
    "sentence pairs": f"{counts['pairs']:,}",
    "modules": ", ".join(counts["classes"]),
  }
