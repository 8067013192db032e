"""Every kernel for every target: it compiles, and to good machine code."""

import pytest

from pallas_kernels.testing import aot, bounds, cases, lints, sass, targets

pytestmark = pytest.mark.aot

CASES = cases.everything()

# Findings that nobody has mended yet; strict, so that a cure shows.
KNOWN = {
  ("flash_attention/mosaic_gpu/plain_128", "h200"): (
    "causal gradients of keys at head_dim 128 spill: 13 LDL/STL, 16 bytes"
  ),
}


def _run(name, target):
  reason = KNOWN.get((name, target))
  mark = pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)
  label = f"{name}-{target}".replace("/", "-")
  return pytest.param(name, target, id=label, marks=[mark] if reason else [])


@pytest.mark.parametrize("name, target", [_run(*each) for each in cases.runs()])
def test_kernels_of(name, target, need):
  need(target)
  case = CASES[name]
  program = aot.compile_for(target, *case.build())
  figures = bounds.measure(program)
  assert figures, "no kernel in the program"
  findings = []
  if targets.get(target).platform == "cuda":
    for kernel in sass.report(program):
      findings += lints.gpu(kernel, case.product_of(target, kernel.name))
  # Figures are stored for the versions of jax that somebody wrote them with.
  before = bounds.stored(target, name)
  if before is not None:
    findings += bounds.compare(figures, before)
  assert not findings, (
    "\n".join(findings) + "\nif meant: python -m pallas_kernels.testing.bounds "
    "--write"
  )
