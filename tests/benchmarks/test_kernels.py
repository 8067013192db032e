"""The kernel benchmark runs, and names what could not run and why."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _kernel_cases as cases
from benchmarks import kernels


@pytest.mark.slow
def test_quick_run_measures_what_this_device_can_do(tmp_path):
  report = kernels.main(
    ["--quick", "--only=packed,convolution", "--repeats=1", "--dtype=float32"]
  )
  assert set(report["cases"]) == {"packed", "convolution"}
  packed = report["cases"]["packed"]["contenders"]
  for contender in ("jaxlm:reference", "jaxlm (chosen)", "jax.nn:xla"):
    found = packed[contender]
    assert set(found) == {"forward", "both"}, found
    for times in found.values():
      assert 0 < times["fastest"] <= times["median"] <= times["slowest"]
  assert "gpu" in packed["jaxlm:triton"]["forward"]["refused"]
  assert not any(name.endswith("interpret") for name in packed)
  rows = kernels.table(report).splitlines()
  line = next(r for r in rows if r.startswith("| packed | jaxlm:triton |"))
  assert "NotImplementedError" in line


def test_an_unknown_case_is_named():
  with pytest.raises(SystemExit, match="No case .'pcked'.; known: plain"):
    kernels.main(["--quick", "--only=pcked"])


def test_the_floor_counts_visible_pairs_only():
  """Documents of 2 and 3 tokens in a row of 6: 4 + 9 pairs, 4 flops each."""
  segments = jnp.int32([[1, 1, 2, 2, 2, 0]])
  assert cases._pairs(segments, 1, 6) == 13
  assert cases._pairs(None, 2, 6) == 72
  line = kernels.Roofline(flops=100.0, bytes=10.0)
  assert line.floor(cases.Work(flops=200.0, bytes=10.0)) == 2.0
  assert line.floor(cases.Work(flops=200.0, bytes=50.0)) == 5.0


def test_packed_rows_have_documents_of_the_mean_asked_for():
  ids = np.asarray(cases._segments(64, 512, 120))
  assert ids.shape == (64, 512) and ids.min() == 1
  # One begins every 120 tokens; a row's end cuts its last.
  begun = (np.diff(ids, axis=1) != 0).sum()
  assert 64 * 511 / begun == pytest.approx(120, rel=0.2)
