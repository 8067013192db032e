"""Batches made ahead of the steps that eat them, in a thread of their own."""

import hashlib
import queue
import threading
from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh

from jaxlm import sharding
from jaxlm.types import Batch, Task


class Feed:
  """Iterates over (step, batch on the devices), `depth` batches ahead.

  Leaving the `with` block stops the thread. An error of the task is raised
  where its batch would have come.

  Args:
    task: the source.
    seed: of the order and of corruption.
    start: the first step.
    stop: the step after the last, or None for no end.
    mesh: where batches go.
    depth: batches that wait, and so much device memory.
  """

  def __init__(
    self,
    task: Task,
    seed: int,
    start: int,
    stop: int | None,
    mesh: Mesh,
    depth: int = 3,
  ):
    self._task, self._seed, self._mesh = task, seed, mesh
    self._range = (start, stop)
    rows = next(iter(task.batch_spec.values())).shape[0]
    self._shard = sharding.process_shard(mesh, rows)
    self._queue: queue.Queue = queue.Queue(depth)
    self._closed = threading.Event()
    self._thread = threading.Thread(
      target=self._run, name=f"feed-{task.name}", daemon=True
    )

  def __enter__(self) -> "Feed":
    self._thread.start()
    return self

  def __exit__(self, *error) -> None:
    self._closed.set()
    self._thread.join()

  def __iter__(self) -> Iterator[tuple[int, Batch]]:
    while True:
      item = self._queue.get()
      if item is None:
        return
      if isinstance(item, BaseException):
        raise item
      yield item

  def _run(self) -> None:
    try:
      step, stop = self._range
      while stop is None or step < stop:
        batch = self._task.batch_at(self._seed, step, shard=self._shard)
        if not self._put((step, sharding.shard_batch(batch, self._mesh))):
          return
        step += 1
      self._put(None)
    except BaseException as error:  # carried to the thread that reads
      self._put(error)

  def _put(self, item) -> bool:
    while not self._closed.is_set():
      try:
        self._queue.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False


def batch_hash(batch: Batch) -> str:
  """Hex digest of a batch's keys, shapes, dtypes and values."""
  digest = hashlib.sha256()
  for key in sorted(batch):
    value = np.ascontiguousarray(batch[key])
    digest.update(f"{key} {value.dtype} {value.shape} ".encode())
    digest.update(value.tobytes())
  return digest.hexdigest()
