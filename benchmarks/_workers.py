"""Contenders in processes of their own, run turn by turn.

Two frameworks in one process would share memory and thread pools; idle
processes cost nothing, and turns that alternate meet the same machine load.
"""

import contextlib
import importlib
import multiprocessing
import os
import resource
import time


class Worker:
  """A contender in its own process.

  Attributes:
    facts: what the contender told: parameters, positions, versions, device.
  """

  def __init__(self, module: str, pool, size: str, options: dict, **more):
    context = multiprocessing.get_context("spawn")  # fork would share threads
    self._pipe, end = context.Pipe()
    self._process = context.Process(
      target=serve, args=(end, module, pool, size, options, more), daemon=True
    )
    self._process.start()
    end.close()
    self.facts = self._receive()

  def round(self, index: int, steps: int) -> dict:
    """Takes `steps` of the updates, others than in the round before."""
    self._pipe.send((index, steps))
    return self._receive()

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(BrokenPipeError, OSError):
      self._pipe.send(None)
    self._process.join(10)
    self._process.terminate()

  def _receive(self):
    try:
      answer = self._pipe.recv()
    except EOFError:
      raise RuntimeError(
        "a contender's process died; its message stands above"
      ) from None
    if isinstance(answer, Exception):
      raise answer
    return answer


def serve(pipe, module, pool, size, options, more) -> None:
  """The life of a worker: make the contender, warm it up, answer.

  `module.contender(pool, size, options, **more)` returns a dict: `run(batch)
  -> wait`, which takes one step and `wait()` gives its loss when done;
  `batches`, on the host, and the real `tokens` of each; `peak`, the device's
  peak memory in bytes, or None; and facts that go to the parent.
  """
  try:
    contender = importlib.import_module(module).contender
    before = _resident()  # the libraries
    made = contender(pool, size, options, **more)
    run, batches, tokens, peak = (
      made.pop(key) for key in ("run", "batches", "tokens", "peak")
    )
    for batch in batches:  # compiles, one shape after the other
      run(batch)()
    _forget_peak()
    pipe.send(made)
    while (asked := pipe.recv()) is not None:
      chosen = _chosen(len(batches), *asked)
      answer = _round(run, [batches[i] for i in chosen])
      answer["tokens"] = sum(int(tokens[i]) for i in chosen)
      if peak is None:
        answer["memory"] = _peak_resident() - before
      else:
        answer["memory"] = peak()
      pipe.send(answer)
  except Exception as error:
    pipe.send(RuntimeError(f"{module}: {type(error).__name__}: {error}"))


def _chosen(count: int, index: int, steps: int) -> list[int]:
  """Evenly spaced batches, since those of a contender may be sorted."""
  apart = max(count // steps, 1)
  # An odd stride near the half of a power of two visits all offsets.
  offset = index * (apart // 2 | 1) % apart
  return list(range(offset, count, apart))[:steps]


def _round(run, batches) -> dict:
  """Seconds by the wall and of the processor, and the last loss."""
  cpu, start = time.process_time(), time.perf_counter()
  for batch in batches:
    wait = run(batch)
  loss = wait()
  return {
    "seconds": time.perf_counter() - start,
    "cpu_seconds": time.process_time() - cpu,
    "loss": loss,
  }


def _resident() -> int:
  """Memory of this process, bytes."""
  return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak_resident() -> int:
  return _status("VmHWM") or (
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  )


def _status(field: str) -> int | None:
  try:
    with open("/proc/self/status") as lines:
      for line in lines:
        if line.startswith(field):
          return int(line.split()[1]) * 1024
  except OSError:
    pass
  return None


def _forget_peak() -> None:
  """Compilation is not a part of the step: the peak starts again here."""
  with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
    file.write("5")


def prepare(cores: int) -> None:
  """Keeps this process, and those it starts, on so many cores.

  They also get huge pages for what they allocate (glibc, Linux): a step takes
  and gives back hundreds of megabytes, and touching those in pages of 4 KB
  costs up to a fifth of it. All contenders gain.
  """
  os.environ["OMP_NUM_THREADS"] = str(cores)
  os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
  if hasattr(os, "sched_setaffinity"):
    mine = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, mine[:cores])
