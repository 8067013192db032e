"""Every kernel for every target: it compiles, and to good machine code."""

import pytest

from pallas_kernels.testing import aot, bounds, cases, lints, sass, targets

pytestmark = pytest.mark.aot

CASES = cases.everything()

LABELS = [f"{name}-{target}".replace("/", "-") for name, target in cases.runs()]


@pytest.mark.parametrize("name, target", cases.runs(), ids=LABELS)
def test_kernels_of(name, target, need):
  need(target)
  case = CASES[name]
  program = aot.compile_for(target, *case.build())
  figures = bounds.measure(program)
  assert figures, "no kernel in the program"
  findings = []
  if targets.get(target).platform == "cuda":
    for kernel in sass.report(program):
      findings += lints.gpu(
        kernel,
        case.product_of(target, kernel.name),
        case.stack_of(kernel.name),
      )
  # Figures are stored for the versions of jax that somebody wrote them with.
  before = bounds.stored(target, name)
  if before is not None:
    findings += bounds.compare(figures, before)
  assert not findings, (
    "\n".join(findings) + "\nif meant: python -m pallas_kernels.testing.bounds "
    "--write"
  )
