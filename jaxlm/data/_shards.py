"""Second pass: rows written as .npy shards, hashed while they are written."""

import hashlib
import io
from collections.abc import Callable

import numpy as np

from jaxlm.data.arrangements import Plan, fill

_TOKENS = 1 << 19  # gathered at once


def write(
  folder,
  split: str,
  plan: Plan,
  ids: np.ndarray,
  width: int,
  pad_id: int,
  rows_per_shard: int,
  progress: Callable[[str, int], None],
) -> list[dict]:
  """Writes the rows of a plan; returns the manifest's entries of its shards.

  An entry is {"rows": n, "arrays": {name: {file, dtype, shape, bytes,
  sha256}}}.
  """
  shards = []
  for first in range(0, plan.rows, rows_per_shard):
    last = min(first + rows_per_shard, plan.rows)
    files = _Files(folder, f"{split}-{len(shards):05d}", last - first)
    step = max(1, _TOKENS // width)
    for at in range(first, last, step):
      stop = min(at + step, last)
      files.append(fill(plan, ids, width, pad_id, at, stop))
      progress("rows", stop)
    shards.append({"rows": last - first, "arrays": files.finish()})
  return shards


class _Files:
  """The .npy files of one shard, one an array, all of the same rows."""

  def __init__(self, folder, stem, rows):
    self._folder, self._stem, self._rows = folder, stem, rows
    self._open = {}

  def append(self, arrays: dict[str, np.ndarray]) -> None:
    for name, value in arrays.items():
      if name not in self._open:
        self._open[name] = _File(
          self._folder / f"{self._stem}-{name}.npy",
          value.dtype,
          (self._rows, *value.shape[1:]),
        )
      self._open[name].write(np.ascontiguousarray(value).tobytes())

  def finish(self) -> dict[str, dict]:
    return {name: file.finish() for name, file in self._open.items()}


class _File:
  """A .npy file written from the front.

  Not a memory map: writing to one on a full disk kills the process, where a
  plain write raises an error that can be told.
  """

  def __init__(self, path, dtype, shape):
    self._path, self._dtype, self._shape = path, dtype, shape
    self._file = open(path, "wb")  # noqa: SIM115, closed by finish
    self._digest = hashlib.sha256()
    self._bytes = 0
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
      header,
      {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
      },
    )
    self.write(header.getvalue())

  def write(self, data: bytes) -> None:
    self._file.write(data)
    self._digest.update(data)
    self._bytes += len(data)

  def finish(self) -> dict:
    self._file.close()
    return {
      "file": self._path.name,
      "dtype": self._dtype.name,
      "shape": list(self._shape),
      "bytes": self._bytes,
      "sha256": self._digest.hexdigest(),
    }
