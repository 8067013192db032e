"""Devices that kernels are compiled for, as numbers of their data sheets."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
  """A device to compile for.

  Attributes:
    name: short name, as on the command line.
    platform: 'tpu' or 'cuda', as `jax.experimental.topologies` names it.
    kind: what `jax.Device.device_kind` says on the device.
    topologies: TPU: number of chips -> name of a slice with as many.
    config: CUDA: a GpuTargetConfigProto as text, else ''.
    fast_memory: bytes that one kernel may fill: VMEM of a TPU's core, shared
      memory of a GPU's block.
  """

  name: str
  platform: str
  kind: str
  fast_memory: int
  topologies: tuple[tuple[int, str], ...] = ()
  config: str = ""

  def topology(self, devices: int) -> str:
    """The smallest slice with `devices` devices or more.

    Raises:
      ValueError: no slice is known that is large enough.
    """
    if self.platform == "cuda":
      return f"1x1x{devices}"  # slices x hosts x devices of a host
    for count, name in self.topologies:
      if count >= devices:
        return name
    raise ValueError(f"{self.name} has no known slice of {devices} devices")


def _gpu_config(
  *,
  kind: str,
  capability: tuple[int, int],
  accelerated: bool,
  cores: int,
  shared_memory: int,
  shared_memory_of_core: int,
  l2_cache: int,
  memory: int,
  bandwidth: int,
  clock_ghz: float,
  fpus: int,
) -> str:
  """XLA's description of a GPU; units are bytes and bytes a second."""
  major, minor = capability
  extension = "feature_extension: ACCELERATED_FEATURES" if accelerated else ""
  return f"""
gpu_device_info {{
  name: "{kind}"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability {{ major: {major} minor: {minor} {extension} }}
  core_count: {cores}
  fpus_per_core: {fpus}
  clock_rate_ghz: {clock_ghz}
  device_memory_size: {memory}
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2_cache}
  shared_memory_per_core: {shared_memory_of_core}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {shared_memory}
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  threads_per_warp: 32
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{kind}"
"""


_MIB = 1 << 20

_ALL = (
  Target(
    "v5e",
    "tpu",
    "TPU v5 lite",
    fast_memory=128 * _MIB,
    topologies=((4, "v5e:2x2"), (8, "v5e:2x4"), (16, "v5e:4x4")),
  ),
  Target(
    "v5p",
    "tpu",
    "TPU v5",
    fast_memory=64 * _MIB,
    topologies=((4, "v5p:2x2x1"), (8, "v5p:2x2x2"), (16, "v5p:2x2x4")),
  ),
  Target(
    "v6e",
    "tpu",
    "TPU v6 lite",
    fast_memory=128 * _MIB,
    topologies=((4, "v6e:2x2"), (8, "v6e:2x4"), (16, "v6e:4x4")),
  ),
  Target(
    "a100",
    "cuda",
    "NVIDIA A100-SXM4-80GB",
    fast_memory=163 << 10,
    config=_gpu_config(
      kind="NVIDIA A100-SXM4-80GB",
      capability=(8, 0),
      accelerated=False,
      cores=108,
      shared_memory=163 << 10,
      shared_memory_of_core=164 << 10,
      l2_cache=40 * _MIB,
      memory=80 << 30,
      bandwidth=2_039_000_000_000,
      clock_ghz=1.41,
      fpus=64,
    ),
  ),
  Target(
    "h200",
    "cuda",
    "NVIDIA H200",
    fast_memory=227 << 10,
    config=_gpu_config(
      kind="NVIDIA H200",
      capability=(9, 0),
      accelerated=True,
      cores=132,
      shared_memory=227 << 10,
      shared_memory_of_core=228 << 10,
      l2_cache=50 * _MIB,
      memory=141 << 30,
      bandwidth=4_800_000_000_000,
      clock_ghz=1.98,
      fpus=128,
    ),
  ),
)

TARGETS = {target.name: target for target in _ALL}


def get(name: str) -> Target:
  """The target of a name.

  Raises:
    ValueError: an unknown name.
  """
  if name not in TARGETS:
    raise ValueError(f"target '{name}' is not one of {', '.join(TARGETS)}")
  return TARGETS[name]
