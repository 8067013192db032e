"""What is compiled for: right also for a device that is not there.

Kernels are chosen while a function is traced. The process's own backend is
the wrong thing to ask then: programs are compiled on a CPU for the machines of
a topology. The mesh knows, and jax carries it to where it is needed: as the
ambient mesh, or in the type of every array that lives on one.
"""

import dataclasses

import jax

PLATFORMS = ("cpu", "gpu", "tpu")
_NAMES = {"cuda": "gpu", "rocm": "gpu"}


@dataclasses.dataclass(frozen=True)
class Device:
  """A sort of device.

  Attributes:
    platform: 'cpu', 'gpu' or 'tpu'.
    kind: jax's `device_kind`, such as 'NVIDIA H200', 'TPU v5 lite' or 'cpu';
      the platform again where the kind is not known.
  """

  platform: str
  kind: str

  def __str__(self):
    if self.kind in (self.platform, ""):
      return self.platform
    return f"{self.platform} ({self.kind})"


def device(platform: str, kind: str | None = None) -> Device:
  """The `Device` of jax's names for it; 'cuda' is 'gpu'."""
  platform = _NAMES.get(platform, platform)
  return Device(platform, kind or platform)


def target(tree=(), mesh=None) -> Device:
  """The device that a call with the arrays of `tree` is compiled for.

  Asked in turn: the mesh given, the ambient one (`jax.set_mesh`), the one
  that the arrays live on (known to tracers too), the devices of arrays
  outside of jit, `jax.default_device`, the process's default backend.

  Args:
    tree: arrays or tracers, in any tree.
    mesh: a `Mesh` or `AbstractMesh`, or None.
  """
  found = _of_mesh(mesh if mesh is not None else mesh_of(tree))
  if found is not None:
    return found
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
      return _of_device(next(iter(leaf.devices())))
  default = jax.config.jax_default_device
  if isinstance(default, str):
    default = jax.local_devices(backend=default)[0]
  return _of_device(default or jax.devices()[0])


def mesh_of(tree=()):
  """The abstract mesh around a call with these arrays; None where none is.

  The ambient mesh, or else that of the first array that lives on one. Inside
  of `shard_map` its axes are manual.
  """
  ambient = jax.sharding.get_abstract_mesh()
  if not ambient.empty:
    return ambient
  for leaf in jax.tree.leaves(tree):
    mesh = getattr(getattr(jax.typeof(leaf), "sharding", None), "mesh", None)
    if mesh is not None and not mesh.empty:
      return mesh
  return None


def _of_mesh(mesh) -> Device | None:
  """A mesh may have forgotten its devices; then others know more."""
  if mesh is None or mesh.empty:
    return None
  if isinstance(mesh, jax.sharding.Mesh):
    return _of_device(mesh.devices.flat[0])
  abstract = mesh.abstract_device
  return None if abstract is None else _of_device(abstract)


def _of_device(found) -> Device:
  return device(found.platform, found.device_kind)
