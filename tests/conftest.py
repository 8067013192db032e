"""Strict modes for all tests: fake devices, no rank promotion, no warnings."""

import os

# Before jax starts: eight devices on one CPU.
_FLAG = "--xla_force_host_platform_device_count"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=8"

import pathlib

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The shared data folder (JAXLM_SHARED or ../shared), or a skip."""
  beside = pathlib.Path(__file__).parents[2] / "shared"
  folder = pathlib.Path(os.environ.get("JAXLM_SHARED", beside))
  if not (folder / "data").is_dir():
    pytest.skip(f"no shared data at {folder}: set JAXLM_SHARED")
  return folder / "data"
