"""Drawings as SVG text that takes the colours of the page it stands in.

matplotlib draws them; its colours are then replaced by CSS variables, so that
one drawing serves a light page, a dark one and paper. No network, no
JavaScript, and the same bytes for the same numbers.
"""

import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlm.reports import numbers

# Drawn in these colours, which the page's style then decides.
_INK, _GRID = "#010203", "#040506"
_SERIES = ("#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05", "#0a0b06")
_VARIABLES = {_INK: "var(--ink)", _GRID: "var(--grid)"} | {
  color: f"var(--series-{i})" for i, color in enumerate(_SERIES, 1)
}
_POINTS = 400  # a curve of more is drawn faint, with its mean over it


def curves(
  series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
  *,
  x_label: str = "step",
  y_label: str = "",
  from_zero: bool = False,
  log_y: bool = False,
  half: bool = False,
) -> str:
  """Lines of (x, y) points, as SVG text.

  Args:
    series: label -> (xs, ys); the legend shows labels where there are several.
    x_label: below the horizontal axis.
    y_label: beside the vertical one.
    from_zero: the vertical axis starts at 0.
    log_y: the vertical axis is logarithmic.
    half: drawn for half the width of the page.
  """
  figure, axes = _blank(width=3.6, height=2.3) if half else _blank()
  for color, (label, (xs, ys)) in zip(_colors(), series.items()):
    _line(axes, np.asarray(xs, float), np.asarray(ys, float), label, color)
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)
  axes.xaxis.set_major_formatter(_tick)
  if half:
    axes.locator_params(axis="x", nbins=5)
  if log_y:
    axes.set_yscale("log")
  else:
    axes.yaxis.set_major_formatter(_tick)
  if from_zero:
    axes.set_ylim(bottom=0)
  if len(series) > 1:
    axes.legend(frameon=False, labelcolor=_INK)
  return _svg(figure, _described(series, y_label, x_label))


def bars(
  values: Mapping[str, tuple[float, float | None]],
  *,
  x_label: str = "",
  reference: tuple[str, float] | None = None,
  limit: float | None = 1.0,
) -> str:
  """Horizontal bars with error bars, as SVG text.

  Args:
    values: label -> (value, standard error or None), from the top.
    x_label: below the axis; it says what the error bars are.
    reference: (label, value) of a dashed line, such as chance.
    limit: end of the axis; None for what the values need.
  """
  figure, axes = _blank(height=0.75 + 0.42 * len(values))
  places = np.arange(len(values))[::-1]
  for place, color, (value, error) in zip(places, _colors(), values.values()):
    axes.barh(place, value, height=0.62, color=color)
    if error is not None:
      axes.errorbar(value, place, xerr=error, color=_INK, capsize=3, lw=1.2)
    shown = f"{value:.3f}" + ("" if error is None else f" \u00b1 {error:.3f}")
    axes.annotate(
      shown,
      (value + (error or 0.0), place),
      xytext=(6, 0),
      textcoords="offset points",
      va="center",
      color=_INK,
    )
  axes.set_yticks(places, list(values))
  axes.tick_params(axis="y", length=0)
  axes.grid(False, axis="y")
  axes.set_xlabel(x_label)
  # Room at the right for the number behind the longest bar.
  longest = max((v + (e or 0.0) for v, e in values.values()), default=1.0)
  axes.set_xlim(0, max(limit or 0.0, 1.25 * longest))
  if reference is not None:
    axes.axvline(reference[1], color=_INK, ls=(0, (4, 3)), lw=1)
    axes.annotate(
      reference[0],
      (reference[1], 1),
      xycoords=("data", "axes fraction"),
      xytext=(0, 3),
      textcoords="offset points",
      ha="center",
      color=_INK,
    )
  said = {label: v for label, (v, _) in values.items()}
  return _svg(figure, f"{x_label}: {_list(said)}")


def _line(axes, xs, ys, label, color) -> None:
  good = np.isfinite(xs) & np.isfinite(ys)
  xs, ys = xs[good], ys[good]
  if len(xs) > _POINTS:
    axes.plot(xs, ys, color=color, lw=0.6, alpha=0.3)
    xs, ys = _means(xs), _means(ys)
  marker = "o" if len(xs) < 25 else None
  axes.plot(xs, ys, color=color, lw=1.8, label=label, marker=marker, ms=3.5)


def _means(values: np.ndarray) -> np.ndarray:
  """Means of about `_POINTS` / 4 neighbouring groups."""
  return np.array([p.mean() for p in np.array_split(values, _POINTS // 4)])


def _blank(width: float = 7.2, height: float = 2.9):
  from matplotlib import rc_context
  from matplotlib.figure import Figure

  style = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "grid.linewidth": 0.8,
  }
  with rc_context(style):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _tick(value: float, _) -> str:
  return numbers.text(round(value, 12))


def _colors():
  while True:
    yield from _SERIES


def _svg(figure, described: str) -> str:
  from matplotlib import rc_context

  stream = io.StringIO()
  # Text stays text: it can be searched, read aloud, and is small.
  with rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxlm"}):
    figure.savefig(
      stream, format="svg", transparent=True, metadata={"Date": None}
    )
  return _adapt(stream.getvalue(), described)


def _adapt(svg: str, described: str) -> str:
  """Colours to variables, identifiers of its own, and a spoken description."""
  svg = svg[svg.index("<svg") :].strip()
  svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
  # Several drawings stand on one page: their identifiers must differ.
  mark = f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
  svg = re.sub(r'\bid="', f'id="{mark}', svg)
  svg = re.sub(r"url\(#", f"url(#{mark}", svg)
  svg = re.sub(r'href="#', f'href="#{mark}', svg)
  for color, variable in _VARIABLES.items():
    svg = svg.replace(color, variable)
  svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
  tag, rest = svg.split(">", 1)
  tag = re.sub(r' (?:width|height)="[^"]*"', "", tag)  # the page decides
  spoken = f' role="img" aria-label="{html.escape(described)}"'
  return f"{tag}{spoken}>{rest}"


def _described(series, y_label, x_label) -> str:
  ends = {label: ys[-1] for label, (_, ys) in series.items() if len(ys)}
  return f"{y_label or 'curves'} by {x_label}; at the end: {_list(ends)}"


def _list(values: Mapping[str, float]) -> str:
  return ", ".join(f"{k} {v:.4g}" for k, v in values.items())
