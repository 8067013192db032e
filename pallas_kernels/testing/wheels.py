"""Installs what compiles without devices, as far as this machine can.

`python -m pallas_kernels.testing.wheels` adds, to the environment that runs
it, the compilers that belong to its jax: libtpu and jax's CUDA plugin, and
NVIDIA's disassemblers. They come for Linux only. Without jax's own
dependencies of the plugin, as compiling needs no CUDA.
"""

import importlib.metadata
import subprocess
import sys


def wanted() -> dict[str, list[str]]:
  """What it serves -> arguments of `pip install`."""
  version = importlib.metadata.version("jax")
  plugins = [f"jax-cuda13-{part}=={version}" for part in ("plugin", "pjrt")]
  return {
    "TPU targets": [f"jax[tpu]=={version}"],
    "GPU targets": ["--no-deps", *plugins],
    "GPU machine code": ["nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm"],
  }


def install() -> list[str]:
  """Installs what it can; what could not be, and pip's last word on it."""
  missing = []
  for purpose, packages in wanted().items():
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    result = subprocess.run(
      [*pip, "install", "--quiet", "--only-binary", ":all:", *packages],
      capture_output=True,
      text=True,
    )
    if result.returncode:
      last = (result.stderr.strip() or "no reason given").splitlines()[-1]
      names = " ".join(name for name in packages if name[:1] != "-")
      missing.append(f"{purpose}: {names} could not be installed ({last})")
  return missing


def main() -> int:
  """Installs; 1 where something is missing."""
  missing = install()
  for line in missing:
    print(f"test-aot: {line}; its tests are skipped", file=sys.stderr)
  return 1 if missing else 0


if __name__ == "__main__":
  raise SystemExit(main())
