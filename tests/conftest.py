"""Strict modes for all tests: fake devices, no rank promotion, no warnings."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

# Before jax starts: eight devices on one CPU, and little time spent on
# optimizing programs that run once (halves the compile time).
_FLAGS = {
  "--xla_force_host_platform_device_count": "8",
  "--xla_backend_optimization_level": "0",
  "--xla_llvm_disable_expensive_passes": "true",
}
# A third of the compile time again; later versions do not know it.
if importlib.metadata.version("jaxlib").startswith("0.10."):
  _FLAGS["--xla_cpu_use_fusion_emitters"] = "false"
_given = os.environ.get("XLA_FLAGS", "")
_missing = [f"{k}={v}" for k, v in _FLAGS.items() if k not in _given]
os.environ["XLA_FLAGS"] = " ".join([_given, *_missing])

# Tests compile the same small programs again and again, some in processes of
# their own: one cache for the session.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _cache = tempfile.mkdtemp(prefix="jaxlm-tests-")
  atexit.register(shutil.rmtree, _cache, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import pathlib  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The shared data folder (JAXLM_SHARED or ../shared), or a skip."""
  beside = pathlib.Path(__file__).parents[2] / "shared"
  folder = pathlib.Path(os.environ.get("JAXLM_SHARED", beside))
  if not (folder / "data").is_dir():
    pytest.skip(f"no shared data at {folder}: set JAXLM_SHARED")
  return folder / "data"
