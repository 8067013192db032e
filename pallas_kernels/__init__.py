"""Kernels for GPU and TPU, each with an XLA reference; imports jax only."""
