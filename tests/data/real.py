"""Files of the shared data, unpacked for a test."""

import gzip
import pathlib

import pytest


def unpack(shared: pathlib.Path, folder: pathlib.Path, name, rename=None):
  """A shared file, plain, below `folder`; skips where it is absent."""
  path = shared / name
  if not path.is_file():
    pytest.skip(f"the shared data has no {name} (looked in {shared})")
  plain = folder / (rename or name.removesuffix(".gz"))
  plain.parent.mkdir(parents=True, exist_ok=True)
  data = path.read_bytes()
  plain.write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
  return plain
