"""ConvBERT's dynamic convolution: taps of its own for each position."""

from pallas_kernels.dynamic_convolution.api import check_name as check_name
from pallas_kernels.dynamic_convolution.api import choose as choose
from pallas_kernels.dynamic_convolution.api import (
  dynamic_convolution as dynamic_convolution,
)
from pallas_kernels.dynamic_convolution.api import (
  implementations as implementations,
)
