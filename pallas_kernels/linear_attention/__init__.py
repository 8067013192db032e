"""Linear attention over mapped features (Hedgehog, arXiv:2402.04347)."""

from pallas_kernels.linear_attention.api import (
  implementations as implementations,
)
from pallas_kernels.linear_attention.api import (
  linear_attention as linear_attention,
)
