"""Compiling ahead of time for a TPU or a GPU that is not there.

libtpu and jax's CUDA plugin compile without their devices: real errors, real
machine code, in seconds, on any Linux machine. Nothing runs.
"""

import atexit
import dataclasses
import functools
import importlib.metadata
import math
import os
import pathlib
import shutil
import tempfile

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pallas_kernels.testing import targets

# libtpu reads these once, when it is loaded: no look for a TPU host's
# metadata, no lock file (test processes run side by side), and the schedule
# of every kernel written out for `bundles.py`.
_TPU_ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_MIN_LOG_LEVEL": "3",
}
_TPU_FLAGS = (
  "--xla_jf_dump_llo_text=true "
  "--xla_jf_dump_llo_pass_label_regex=final_hlo.*utilization "
  "--xla_jf_dump_to="
)
# Test runs switch most optimization off for the CPU; here it is measured.
_CUDA_OPTIONS = {
  "xla_backend_optimization_level": 3,
  "xla_llvm_disable_expensive_passes": False,
}


@dataclasses.dataclass(frozen=True)
class Program:
  """What a compiler made.

  Attributes:
    target: name of the target.
    compiled: jax's program, with its costs and its memory.
    hlo: XLA's text of the optimized program.
    schedules: TPU: HLO instruction -> libtpu's table of the units that each
      bundle of it uses, see `bundles.report`.
  """

  target: str
  compiled: jax.stages.Compiled
  hlo: str
  schedules: dict[str, str]


def available(target: str) -> str | None:
  """Why nothing can be compiled for a target here, or None where it can."""
  if targets.get(target).platform == "tpu":
    wanted = ("libtpu",)
  else:
    wanted = ("jax-cuda13-plugin", "jax-cuda13-pjrt")
  missing = [name for name in wanted if not _installed(name)]
  if not missing:
    return None
  return f"no compiler for {target}: {', '.join(missing)} is not installed"


def _installed(name: str) -> bool:
  try:
    importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True


@functools.cache
def _dump_folder() -> pathlib.Path:
  """Where libtpu writes the schedules of what it compiles; removed at exit.

  Sets the process up for compiling ahead of time, so that this comes before
  libtpu is loaded.
  """
  jax.config.update("jax_platforms", "cpu")
  # Compiled for no device: neither worth keeping nor fit to be loaded.
  jax.config.update("jax_enable_compilation_cache", False)
  folder = tempfile.mkdtemp(prefix="pallas-aot-")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  for name, value in _TPU_ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  given = os.environ.get("LIBTPU_INIT_ARGS", "")
  os.environ["LIBTPU_INIT_ARGS"] = f"{given} {_TPU_FLAGS}{folder}".strip()
  return pathlib.Path(folder)


@functools.cache
def devices(target: str, count: int = 1) -> tuple:
  """`count` devices of a kind, for the mesh of a program that never runs.

  Raises:
    RuntimeError: the compiler of this target is not installed.
  """
  reason = available(target)
  if reason:
    raise RuntimeError(reason)
  _dump_folder()
  found = targets.get(target)
  name = found.topology(count)
  if found.platform == "tpu":
    description = topologies.get_topology_desc(
      platform="tpu", topology_name=name
    )
  else:
    description = topologies.get_topology_desc(
      platform="cuda", topology=name, target_config=found.config
    )
  return tuple(description.devices[:count])


def mesh(target: str, axes: dict[str, int] | None = None) -> Mesh:
  """A mesh of a target's devices; one device named 'x' where None."""
  axes = axes or {"x": 1}
  count = math.prod(axes.values())
  shape = tuple(axes.values())
  return Mesh(np.array(devices(target, count)).reshape(shape), tuple(axes))


def compile_for(
  target: str,
  function,
  args,
  *,
  axes: dict[str, int] | Mesh | None = None,
  specs=None,
  **jit_options,
) -> Program:
  """The program of `function(*args)`, compiled for a target.

  Args:
    target: a name of `targets.TARGETS`.
    function: a function, or one that `jax.jit` has wrapped already.
    args: arrays or shapes, any tree a argument. Those with a sharding over
      the mesh keep it.
    axes: axis -> size of the mesh, or the mesh; one device where None.
    specs: a tree of PartitionSpecs as long as `args`, each for all that lies
      under its place; all whole where None.
    **jit_options: for `jax.jit`.

  Raises:
    RuntimeError: the target's compiler is not installed.
    Exception: what the compiler says about a program that it refuses.
  """
  over = axes if isinstance(axes, Mesh) else mesh(target, axes)
  args = tuple(args)
  specs = specs or (PartitionSpec(),) * len(args)
  placed = jax.tree.map(
    lambda spec, arg: _place(arg, NamedSharding(over, spec)),
    tuple(specs),
    args,
    is_leaf=lambda spec: isinstance(spec, PartitionSpec),
  )
  if not hasattr(function, "lower"):
    function = jax.jit(function, **jit_options)
  cuda = targets.get(target).platform == "cuda"
  # The mesh tells Pallas for which device it lowers.
  with jax.set_mesh(over):
    lowered = function.lower(*placed)
  compiled = lowered.compile(compiler_options=_CUDA_OPTIONS if cuda else None)
  return Program(target, compiled, compiled.as_text(), _take_schedules())


def _place(tree, sharding: NamedSharding):
  """Shapes with a sharding, but for what lies on the mesh already."""

  def leaf(x):
    here = getattr(x, "sharding", None)
    if isinstance(here, NamedSharding) and here.mesh == sharding.mesh:
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return jax.tree.map(leaf, tree)


def _take_schedules() -> dict[str, str]:
  """Reads and removes what the last compilation wrote."""
  found = {}
  for path in _dump_folder().iterdir():
    # <time>-<instruction>-<pass number>-final_hlo-...-utilization.txt
    if path.name.endswith("utilization.txt"):
      _, _, rest = path.name.partition("-")
      found[rest.rsplit("-", 6)[0]] = path.read_text()
    path.unlink()
  return found
