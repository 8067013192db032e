"""Attention in Pallas Triton, interpreted, against the float64 oracle."""

from tests.pallas_kernels.attention_contract import AttentionContract


class TestTriton(AttentionContract):
  """Everything, on any device, by Pallas' interpreter."""

  implementation = "triton:interpret"
