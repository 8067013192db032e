"""The cache: rows of tokens in random addressable shards, and a manifest.

A cache is a folder of .npy shards, one file a shard and array, and a
manifest.json that says what they were made from (the sha256 of sources and
tokenizer, the arrangement, the width), what they hold and what they hash to.
It is written to a temporary folder and renamed, so it is there whole or not
at all; the same inputs give the same bytes. No TensorFlow.
"""

import contextlib
import errno
import os
import pathlib
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxlm.data import _manifest, _shards, _stream
from jaxlm.data.arrangements import Frame, arrangements
from jaxlm.errors import UserError

ROWS_PER_SHARD = _manifest.ROWS_PER_SHARD
SMALL = 1 << 30  # bytes
key = _manifest.key


class Cache:
  """An opened cache.

  Attributes:
    folder: where it lies.
    manifest: what `manifest.json` says.
  """

  def __init__(self, folder: pathlib.Path, manifest: Mapping[str, Any]):
    self.folder = folder
    self.manifest = manifest
    self._shards = {
      split: [_mapped(folder, shard) for shard in entry["shards"]]
      for split, entry in manifest["splits"].items()
    }

  @property
  def sha256(self) -> str:
    """What identifies the rows: the hash of the manifest."""
    return self.manifest["sha256"]

  def rows(self, split: str) -> int:
    """Rows of a split; 0 where the cache has none."""
    entry = self.manifest["splits"].get(split)
    return entry["rows"] if entry else 0

  def arrays(self, split: str) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """name -> (dtype, shape of a row)."""
    shard = self._shards[split][0]
    return {name: (a.dtype, a.shape[1:]) for name, a in shard.items()}

  def files(self, split: str, name: str) -> list[pathlib.Path]:
    """The files of an array, shard by shard."""
    shards = self.manifest["splits"][split]["shards"]
    return [self.folder / s["arrays"][name]["file"] for s in shards]

  def gather(self, split: str, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Copies rows in any order.

    Args:
      split: which split.
      indices: int [rows], in 0..rows of the split.

    Returns:
      name -> [rows, ...] of the array's own dtype: `tokens`, `segments` and,
      where the arrangement makes them, `types`, `cls_positions`, `labels`.
    """
    shards = self._shards[split]
    per_shard = self.manifest["key"]["rows_per_shard"]
    which, row = np.divmod(np.asarray(indices), per_shard)
    out = {
      name: np.empty((len(which), *shape), dtype)
      for name, (dtype, shape) in self.arrays(split).items()
    }
    for shard in np.unique(which):
      places = which == shard
      for name, rows in shards[shard].items():
        out[name][places] = rows[row[places]]
    return out


def build(
  folder,
  key: Mapping[str, Any],
  documents: Iterable[tuple[str, str]],
  tokenizer,
  split_sentences: Callable[[str], list[str]] | None = None,
  progress: Callable[[str, int], None] = lambda what, done: None,
  report: Callable[[str], None] = print,
) -> Cache:
  """Tokenizes, packs and writes a cache, in memory that does not grow.

  Only lengths (some 40 bytes a document) are held in memory; ids go to a
  temporary file and are gathered from there.

  Args:
    folder: where the cache will lie; one that lies there is opened.
    key: from `key`.
    documents: (split, text) pairs, streamed.
    tokenizer: has `encode_batch`, `bracket`, `vocab_size`, `pad_id`, ...
    split_sentences: cuts a document into sentences; needed by arrangements
      that ask for them.
    progress: called with ("tokens" or "rows", number so far).
    report: told of folders of killed processes that were removed.

  Raises:
    UserError: the folder holds something else, no document holds a token,
      the disk is full.
  """
  folder = pathlib.Path(folder)
  if folder.exists():  # never written over
    return open_cache(folder, key)
  arrangement = arrangements.build(key["arrangement"])
  cut = split_sentences if arrangement.sentences else None
  with _building(folder, report) as temporary:
    streams = _stream.tokenize(documents, tokenizer, cut, temporary, progress)
    if not any(stream.documents for stream in streams.values()):
      raise UserError(
        "No document holds a token: the files are blank or the tokenizer "
        "knows none of their characters."
      )
    frame, splits = Frame.of(tokenizer), {}
    plans = {
      split: arrangement.plan(stream.pieces, frame, key["width"])
      for split, stream in sorted(streams.items())
      if stream.documents
    }
    # Arrays of all splits have one shape.
    slots = max(plan.slots for plan in plans.values())
    for split, stream in sorted(streams.items()):
      if split in plans:
        plan = plans[split]._replace(least_slots=slots)
        splits[split] = _write_split(
          temporary, split, stream, plan, tokenizer, key, progress
        )
      (temporary / f"{split}.ids").unlink()
    _manifest.write(temporary, key, splits)
  return open_cache(folder, key)


def open_cache(
  folder, key: Mapping[str, Any] | None = None, verify: bool | None = None
) -> Cache:
  """Opens a cache after checking that it is whole and the one asked for.

  Args:
    folder: where it lies.
    key: what it should have been made from; None takes it as it is.
    verify: also hash every shard, which reads them all; None: where that
      takes a second or two, below `SMALL` bytes.

  Raises:
    UserError: it is not a cache, of another format, damaged, or made from
      something else; the message names the file and what to do.
  """
  folder = pathlib.Path(folder)
  manifest = _manifest.read(folder)
  if key is not None:
    found = _manifest.differences(manifest["key"], key)
    if found:
      raise UserError(
        f"The cache '{folder}' was made from something else: "
        f"{'; '.join(found)}. {_manifest.remedy(folder)}"
      )
  arrays = [
    array
    for split in manifest["splits"].values()
    for shard in split["shards"]
    for array in shard["arrays"].values()
  ]
  if verify is None:
    verify = sum(array["bytes"] for array in arrays) < SMALL
  for array in arrays:
    _manifest.check_file(folder, array, verify)
  return Cache(folder, manifest)


def _write_split(
  folder, split, stream, plan, tokenizer, key, progress
) -> dict[str, Any]:
  width = key["width"]
  shards = _shards.write(
    folder,
    split,
    plan,
    stream.ids,
    width,
    tokenizer.pad_id or 0,
    key["rows_per_shard"],
    progress,
  )
  filled = int(plan.length.sum(dtype=np.int64))
  filled += int((plan.before >= 0).sum() + (plan.after >= 0).sum())
  return {
    "documents": stream.documents,
    "empty_documents": stream.empty,
    "tokens": int(stream.pieces.lengths.sum(dtype=np.int64)),
    "rows": plan.rows,
    "packing": {
      "filled": filled,
      "efficiency": round(filled / (plan.rows * width), 6),
      "segments": int(_segments(plan).sum(dtype=np.int64)),
    },
    "shards": shards,
  }


def _segments(plan) -> np.ndarray:
  """int32 [rows]: segments of each row."""
  return np.maximum.reduceat(plan.segment, plan.bounds[:-1])


def _mapped(folder, shard) -> dict[str, np.ndarray]:
  # A plain view of the map: numpy's memmap class makes every slice slow.
  return {
    name: np.asarray(np.load(folder / array["file"], mmap_mode="r"))
    for name, array in shard["arrays"].items()
  }


@contextlib.contextmanager
def _building(folder, report) -> Iterator[pathlib.Path]:
  """A temporary folder that becomes `folder` when all went well."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  stem = f".{folder.name}-building-{socket.gethostname()}-"
  for left in folder.parent.glob(f"{stem}*"):
    if not _alive(left.name.removeprefix(stem)):  # of a killed process
      shutil.rmtree(left, ignore_errors=True)
      report(f"Removed '{left}', half-written by a process that died.")
  temporary = folder.parent / f"{stem}{os.getpid()}"
  temporary.mkdir()
  try:
    yield temporary
    _rename(temporary, folder)
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise UserError(
      f"The disk is full: writing the cache '{folder}' needs some 6 bytes a "
      "token, twice while it is being written. Free some space, or choose "
      "another workdir."
    ) from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary, folder) -> None:
  try:
    os.rename(temporary, folder)
  except OSError:
    # Another process finished the same cache first; `open_cache` compares.
    if not (folder / "manifest.json").is_file():
      raise


def _alive(pid: str) -> bool:
  try:
    os.kill(int(pid), 0)
  except (ProcessLookupError, ValueError):
    return False
  except PermissionError:
    return True
  return True
