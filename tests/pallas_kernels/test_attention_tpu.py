"""Attention in Pallas Mosaic TPU, interpreted, against the float64 oracle."""

from tests.pallas_kernels.attention_contract import AttentionContract


class TestMosaicTpu(AttentionContract):
  """Everything, on any device, by Pallas' interpreter."""

  implementation = "mosaic_tpu:interpret"
