"""What this machine offers jaxlm, told in under ten seconds."""

import importlib.metadata
import os
import platform
import shutil

import jax

from pallas_kernels import choices

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "ml-collections",
  "tokenizers",
  "seqio",
  "tensorflow",
)


def examine(workdir: str = ".") -> str:
  """Devices, versions, memory, disk and the choice of kernels, as text."""
  lines = [f"Python {platform.python_version()} on {platform.platform()}"]
  lines.append("Packages: " + ", ".join(_version(p) for p in _PACKAGES))
  devices = jax.devices()
  kinds = sorted({d.device_kind for d in devices})
  lines.append(
    f"Devices: {len(devices)} x {', '.join(kinds)} ({jax.default_backend()}), "
    f"process {jax.process_index() + 1} of {jax.process_count()}"
  )
  lines.append(f"Processor: {os.cpu_count()} cores, {_memory()}")
  stats = devices[0].memory_stats() or {}
  if "bytes_limit" in stats:
    lines.append(f"Device memory: {_gib(stats['bytes_limit'])} each")
  disk = shutil.disk_usage(workdir)
  lines.append(f"Disk: {_gib(disk.free)} free of {_gib(disk.total)}")
  lines.append("What computes, where a config names nothing:")
  for chosen in choices():
    lines.append(
      f"  {chosen.op}, {chosen.about}: {chosen.implementation} "
      f"({chosen.reason})"
    )
  return "\n".join(lines)


def _version(package):
  try:
    return f"{package} {importlib.metadata.version(package)}"
  except importlib.metadata.PackageNotFoundError:
    return f"{package} MISSING"


def _memory():
  try:
    pages = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_AVPHYS_PAGES")
    size = os.sysconf("SC_PAGE_SIZE")
  except (ValueError, OSError, AttributeError):
    return "memory unknown"
  total, free = (count * size for count in pages)
  return f"{_gib(free)} free of {_gib(total)} memory"


def _gib(size):
  return f"{size / 2**30:.1f} GiB"
