"""Kernels over 8 devices: each works on its own part, and none waits."""

import re

import pytest
from jax.sharding import PartitionSpec as P

from pallas_kernels.testing import aot, cases, hlo, lints
from tests.aot import train_step

pytestmark = pytest.mark.aot

AXES = {"data": 2, "fsdp": 2, "tensor": 2}
ROWS = ("data", "fsdp")
WIDE = P(ROWS, None, "tensor")
TARGETS = [("v5e", "mosaic_tpu"), ("h200", "triton")]


def _attention(target, implementation, term=None):
  """Attention with gradients, rows and heads split; 8 rows, 4 heads."""
  function, args = cases.attention(
    implementation, batch=8, length=128, term=term, segments=True
  )
  inputs = dict(query=WIDE, key=WIDE, value=WIDE)
  if term is not None:
    inputs["bias"] = P()
  return aot.compile_for(
    target, function, args, axes=AXES, specs=(inputs, P(ROWS), WIDE)
  )


def _has(kernel, *sizes):
  """Whether an array of these sizes, in any order, goes in or out."""
  shapes = re.findall(r"\[([\d,]+)\]", kernel.operands)
  found = [sorted(map(int, shape.split(","))) for shape in shapes]
  return sorted(sizes) in found


@pytest.mark.parametrize("target, implementation", TARGETS)
def test_attention_has_no_collective(target, implementation, need):
  need(target)
  program = _attention(target, implementation)
  kernels = hlo.kernels(program.hlo)
  assert len(kernels) >= 2  # forward and backward
  assert all(_has(kernel, 8 // 4, 4 // 2, 128, 64) for kernel in kernels)
  assert hlo.collectives(program.hlo) == []


@pytest.mark.parametrize("target, implementation", TARGETS)
def test_a_shared_bias_costs_one_sum(target, implementation, need):
  need(target)
  program = _attention(target, implementation, term="dense")
  found = [each.kind for each in hlo.collectives(program.hlo)]
  # The bias comes whole to every device and its heads' gradients are put
  # together again: that is how it lives here, not something attention needs.
  assert found.count("all-reduce") == 1
  assert set(found) <= {"all-reduce", "all-gather"}


@pytest.mark.parametrize("target, implementation", TARGETS)
def test_the_train_step_runs_kernels(target, implementation, need):
  need(target)
  program = train_step.compile_step(target, implementation)
  kernels = [
    kernel for kernel in hlo.kernels(program.hlo) if "attention" in kernel.name
  ]
  assert {"forward" in kernel.name for kernel in kernels} == {True, False}
  local = (
    train_step.ROWS // 4,
    train_step.HEADS // 2,
    train_step.LENGTH,
    train_step.HEAD_DIM,
  )
  assert all(_has(kernel, *local) for kernel in kernels)
  inside = ["shard_map", "flash_attention", "pallas_call"]
  assert lints.collectives(program.hlo, inside) == []
  # There are collectives: matrices are split over `tensor`, rows over the rest.
  kinds = {found.kind for found in hlo.collectives(program.hlo)}
  assert {"all-gather", "all-reduce"} <= kinds
  # The state is updated in place.
  memory = program.compiled.memory_analysis()
  assert memory.alias_size_in_bytes > 0.9 * memory.output_size_in_bytes
