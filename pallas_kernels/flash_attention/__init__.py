"""Attention with structured bias, segments, causality and windows."""

from pallas_kernels.flash_attention.api import check_name as check_name
from pallas_kernels.flash_attention.api import choose as choose
from pallas_kernels.flash_attention.api import (
  flash_attention as flash_attention,
)
from pallas_kernels.flash_attention.api import (
  implementations as implementations,
)
