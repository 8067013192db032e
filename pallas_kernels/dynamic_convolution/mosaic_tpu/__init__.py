"""Dynamic convolution as one Pallas Mosaic kernel a direction, for TPU.

As on GPU (see `triton.py`), the taps of neighbouring positions become a band
matrix and the sums over taps matrix products. Taps of all heads lie side by
side in the 128 lanes of a register, where one softmax serves them all; a
gather within lanes spreads a head's taps over the band, and gathers the
gradient of the band back to taps. Heads side by side in lanes are multiplied
together and told apart by a select, so that arrays stay [batch, length,
heads * head_dim], as the projections around this op make and take them.
"""

from pallas_kernels.dynamic_convolution.mosaic_tpu.call import Tiles as Tiles
from pallas_kernels.dynamic_convolution.mosaic_tpu.call import (
  dynamic_convolution as dynamic_convolution,
)
