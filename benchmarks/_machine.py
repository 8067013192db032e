"""What a table of numbers was measured on."""

import os
import platform

import jax

import jaxlm


def named() -> str:
  """Versions, the device's kind and the host's cores, on one line."""
  return (
    f"jaxlm {jaxlm.__version__}, jax {jax.__version__}, "
    f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
    f"Python {platform.python_version()}"
  )
