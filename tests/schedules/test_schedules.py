"""Each schedule against numbers worked out by hand."""

import jax
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.schedules import schedules


def rates(steps_at, **spec):
  schedule = schedules.build(spec, learning_rate=2.0, steps=100)
  return [float(schedule(step)) for step in steps_at]


def test_constant():
  assert rates([0, 5, 10, 99], kind="constant", warmup=10) == [0, 1, 2, 2]
  assert rates([0, 99], kind="constant") == [2, 2]


def test_linear():
  got = rates([0, 5, 10, 55, 100, 200], kind="linear", warmup=0.1)
  np.testing.assert_allclose(got, [0, 1, 2, 1, 0, 0], atol=1e-6)


def test_linear_of_mosaicbert():
  got = rates([6, 53, 100], kind="linear", warmup=0.06, final=0.02)
  np.testing.assert_allclose(got, [2, 1.02, 0.04], rtol=1e-6)


def test_cosine():
  got = rates([10, 40, 55, 100], kind="cosine", warmup=10, final=0.1)
  quarter = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi / 3))
  np.testing.assert_allclose(got, [2, 2 * quarter, 1.1, 0.2], rtol=1e-6)


def test_wsd():
  spec = dict(kind="wsd", warmup=0.1, decay=0.2, final=0.1)
  np.testing.assert_allclose(
    rates([5, 10, 80, 90, 100], **spec), [1, 2, 2, 1.1, 0.2], rtol=1e-6
  )
  root = 2 * (0.1 + 0.9 * (1 - np.sqrt(0.25)))
  np.testing.assert_allclose(
    rates([80, 85, 100], **spec, shape="sqrt"), [2, root, 0.2], rtol=1e-6
  )
  assert rates([99], kind="wsd", decay=0) == [2]


def test_inverse_sqrt():
  got = rates([5, 10, 40, 90], kind="inverse_sqrt", warmup=10)
  np.testing.assert_allclose(got, [1, 2, 1, 2 / 3], rtol=1e-6)
  cooled = rates([40, 80, 90, 100], kind="inverse_sqrt", warmup=10, cooldown=20)
  np.testing.assert_allclose(
    cooled, [1, 2 / 8**0.5, 1 / 3, 0], rtol=1e-6, atol=1e-6
  )
  assert rates([0, 1, 4], kind="inverse_sqrt") == [2, 2, 1]


@pytest.mark.parametrize("kind", schedules.kinds())
def test_every_schedule_is_float32_traced_or_not(kind):
  schedule = schedules.build(
    {"kind": kind, "warmup": 0.25}, learning_rate=1.0, steps=8
  )
  for step in (0, 3, 8):
    traced = jax.jit(schedule)(np.int32(step))
    assert traced.dtype == np.float32
    np.testing.assert_allclose(traced, schedule(float(step)), rtol=1e-6)
    assert 0 <= traced <= 1


@pytest.mark.parametrize(
  "spec, words",
  [
    (dict(kind="linear", warmup=-1), "warmup is -1"),
    (dict(kind="linear", warmup=101), "up to its 100"),
    (dict(kind="cosine", final=2), "final is 2"),
    (dict(kind="wsd", warmup=60, decay=60), "longer than the run's 100"),
    (dict(kind="wsd", shape="sqr"), "Did you mean 'sqrt'"),
    (dict(kind="linaer"), "Did you mean 'linear'"),
    (dict(kind="linear", warm=1), "Did you mean 'warmup'"),
  ],
)
def test_bad_values_are_named(spec, words):
  with pytest.raises(UserError, match=words):
    rates([0], **spec)
