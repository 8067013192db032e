"""Long convolutions by the Fourier transform, also as matrix products."""

from pallas_kernels.fft_convolution.api import (
  fft_convolution as fft_convolution,
)
from pallas_kernels.fft_convolution.api import (
  implementations as implementations,
)
