"""Kernels for GPU and TPU, each with an XLA reference; imports jax only."""

from pallas_kernels.overview import Chosen as Chosen
from pallas_kernels.overview import choices as choices
