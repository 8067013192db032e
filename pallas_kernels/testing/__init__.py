"""Compiling kernels for devices that are not there, and reading the result."""
