"""Skips what no compiler is installed for, with the reason."""

import pytest

from pallas_kernels.testing import aot


@pytest.fixture
def need():
  """`need('h200')` skips the test where nothing compiles for it."""

  def check(*targets):
    for target in targets:
      if reason := aot.available(target):
        pytest.skip(reason)

  return check
