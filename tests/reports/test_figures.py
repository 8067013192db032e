import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jaxlm.reports import figures


def texts(svg):
  root = ElementTree.fromstring(svg)
  return [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]


def line(values):
  return {"training": (list(range(len(values))), values)}


def test_curves_are_svg_with_labels():
  svg = figures.curves(
    {**line([3.0, 2.0, 1.0]), "validation": ([0, 2], [3.5, 1.5])},
    y_label="loss",
  )
  assert {"training", "validation", "loss", "step"} <= set(texts(svg))
  assert svg.startswith("<svg") and svg.endswith("</svg>")
  assert "at the end: training 1, validation 1.5" in svg


def test_colours_are_the_pages():
  svg = figures.curves(line([1.0, 2.0]))
  assert "var(--ink)" in svg and "var(--series-1)" in svg
  assert not re.search(r"#0[14a]0[25b]0", svg)
  assert 'width="' not in svg.split(">", 1)[0]


def test_same_numbers_give_the_same_bytes():
  assert figures.curves(line([1.0, 2.0])) == figures.curves(line([1.0, 2.0]))


def test_identifiers_of_two_drawings_differ():
  identifiers = [
    set(re.findall(r'\bid="([^"]*)"', figures.curves(line(values))))
    for values in ([1.0, 2.0], [2.0, 1.0])
  ]
  assert identifiers[0] and not identifiers[0] & identifiers[1]


def test_references_inside_a_drawing_hold():
  svg = figures.curves(line([1.0, 2.0]))
  known = set(re.findall(r'\bid="([^"]*)"', svg))
  used = set(re.findall(r'(?:url\(|href=")#([^")]*)', svg))
  assert used and used <= known


def test_values_that_are_not_finite_are_left_out():
  with_gap = figures.curves(line([1.0, np.nan, np.inf, 2.0]))
  assert (
    "nan" not in with_gap and "inf" not in with_gap.lower().split("desc")[0]
  )


def test_long_curves_are_averaged():
  noisy = np.random.default_rng(0).normal(size=5000)
  svg = figures.curves(line(noisy))
  assert "opacity: 0.3" in svg
  assert "opacity: 0.3" not in figures.curves(line(noisy[:100]))


@pytest.mark.parametrize(
  "options", [{"log_y": True}, {"half": True}, {"from_zero": True}]
)
def test_options_draw(options):
  ElementTree.fromstring(figures.curves(line([1.0, 10.0, 100.0]), **options))


def test_bars_show_values_errors_and_chance():
  svg = figures.bars(
    {"trained": (0.78, 0.014), "untrained": (0.5, None)},
    x_label="share",
    reference=("chance", 0.5),
  )
  shown = texts(svg)
  assert "0.780 \u00b1 0.014" in shown and "0.500" in shown
  assert {"trained", "untrained", "chance", "share"} <= set(shown)
