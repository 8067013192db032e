"""Linear attention over mapped features (Hedgehog, arXiv:2402.04347).

Why there is a kernel: XLA writes the scores of a chunk and its states to
memory. Counted in programs compiled for an H200 (jax 0.10.2, operands and
results of every instruction, loops counted out, which counts whole what a
loop reads a slice of; nothing was timed): bfloat16, 64 rows of 512, 12 heads,
128 features, head_dim 64, forward, 'chunked' moves 1.6 GB without mask, up to
5.1 causal and up to 9.1 packed, where 0.3 is each array once; 'triton' 1.0
packed. Its kernels spill no register with 128 features and head_dim 64, in any
dtype (`tests/aot`). On a v5e 'mosaic_tpu' moves 2.5 GB packed, 'chunked' at
most 8.5.
"""

from pallas_kernels.linear_attention.api import (
  implementations as implementations,
)
from pallas_kernels.linear_attention.api import (
  linear_attention as linear_attention,
)
