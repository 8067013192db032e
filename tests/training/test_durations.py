"""Durations in every unit, and schedules over a budget of time."""

import pytest

from jaxlm.errors import UserError
from jaxlm.training.durations import TIMED_STEPS, build_schedule, resolve


def steps(value):
  return resolve(value, rows=1000, batch_size=32, row_tokens=128)


@pytest.mark.parametrize(
  "value, count",
  [
    (600, 600),
    ("600", 600),
    ("10_000 steps", 10_000),
    (1e4, 10_000),
    ("1 epoch", 32),  # 31.25, rounded up
    ("3 epochs", 94),
    ("0.5 epochs", 16),
    ("4096 tokens", 1),
    ("1e9 tokens", 244141),
    ("4.096e6 tokens", 1000),
    ("64 rows", 2),
  ],
)
def test_counts_resolve_to_steps(value, count):
  assert steps(value) == (count, None)


@pytest.mark.parametrize(
  "value, seconds",
  [("24h", 86400), ("90 min", 5400), ("30 s", 30), ("1.5 hours", 5400)],
)
def test_times_are_budgets(value, seconds):
  assert steps(value) == (None, seconds)


@pytest.mark.parametrize(
  "value, words",
  [
    ("3 epoch5", "config.steps is '3 epoch5'"),
    ("3 epcohs", "unknown unit.*Did you mean 'epochs'"),
    (0, "above 0"),
    (-5, "config.steps is -5"),
    (True, "config.steps is True"),
    (2.5, "whole number"),
    ("", "config.steps is ''"),
    ("1.2.3", "config.steps is '1.2.3'"),
  ],
)
def test_anything_else_is_refused(value, words):
  with pytest.raises(UserError, match=words):
    steps(value)


def test_a_budget_places_the_schedule_by_elapsed_share():
  duration = steps("100 s")
  schedule = build_schedule({"kind": "linear", "warmup": 0.1}, 1.0, duration)
  rate = lambda at: float(schedule(duration.schedule_step(7, at)))
  assert rate(5) == pytest.approx(0.5)
  assert rate(55) == pytest.approx(0.5)
  assert rate(100) == rate(1000) == 0
  assert duration.horizon == TIMED_STEPS
  assert not duration.over(10**9, 99.0) and duration.over(0, 100.0)


def test_a_budget_refuses_lengths_in_steps():
  with pytest.raises(UserError, match="warmup is 500 steps.*share"):
    build_schedule({"kind": "linear", "warmup": 500}, 1.0, steps("1h"))


def test_steps_place_the_schedule_by_step():
  duration = steps(50)
  assert duration.schedule_step(7, 1e9) == 7
  assert duration.over(50, 0.0) and not duration.over(49, 1e9)
