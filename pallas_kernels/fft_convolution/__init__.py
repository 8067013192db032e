"""Long convolutions by the Fourier transform, also as matrix products.

Static figures, counted in programs compiled for an H200 (jax 0.10.2, operands
and results of every instruction; nothing was timed): bfloat16, 64 rows, 768
channels, forward, in GB that are read and written.

  length   reference (cuFFT)   monarch   triton   each array once
    1024                 3.7       6.9      0.9               0.2
    4096                14.6                3.4               0.8
    8192                29.2     100.7        -               1.6

XLA writes every product of 'monarch' to memory, and transposes between them:
its use is where frequencies are masked or the FFT is slow, and no table
chooses it. 'triton' is one kernel (`triton.py`) between two turns of the
arrays, which are most of its bytes; it has no place for longer sequences.
"""

from pallas_kernels.fft_convolution.api import (
  fft_convolution as fft_convolution,
)
from pallas_kernels.fft_convolution.api import (
  implementations as implementations,
)
