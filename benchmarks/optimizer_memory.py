"""Bytes of optimizer states at GaLore's sizes, as XLA lays them out.

  python -m benchmarks.optimizer_memory

Compiles what makes each state and asks the program for the size of its
buffers: nothing is allocated, so a laptop tells it for a billion parameters.
"""

import argparse
import sys

import flax.linen as nn
import jax

from benchmarks import _machine
from configs import galore, gradnormlorp
from jaxlm import errors, paths, recipe
from jaxlm.models import assembly
from jaxlm.optimizers import optimizers

_ADAMW = dict(kind="adamw", learning_rate=1e-3)
SIZES = tuple(name for name in galore.SIZES if name != "tiny")


def contenders(size: str) -> dict[str, dict]:
  """name -> spec; ranks are those of the paper at this size."""
  low = galore.get_config(size).optimizer.to_dict()
  normed = gradnormlorp.get_config(size).optimizer.to_dict()
  return {
    "adamw": _ADAMW,
    "adamw, 8 bits": dict(kind="eight_bit", base=_ADAMW, learning_rate=1e-3),
    "galore": low,
    "gradnormlorp": normed | dict(eight_bit=False),
    "gradnormlorp, 8 bits": normed,
  }


def parameters(size: str):
  """Shapes of the model's parameters."""
  config = galore.get_config(size)
  spec = config.model.to_dict() | dict(vocab_size=config.tokenizer.vocab_size)
  return nn.meta.unbox(recipe.shapes(assembly.build(spec)))


def state_bytes(spec: dict, params) -> int:
  """Bytes of the buffers that hold a fresh state, padding included."""
  tx = optimizers.build(dict(spec))
  program = jax.jit(tx.init).lower(params).compile()
  return program.memory_analysis().output_size_in_bytes


def table(sizes) -> str:
  """A row an optimizer, a column a size."""
  cells: dict[str, list[str]] = {}
  for size in sizes:
    params = parameters(size)
    print(f"{size}: {paths.count(params):,} parameters", file=sys.stderr)
    full = None
    for name, spec in contenders(size).items():
      found = state_bytes(spec, params)
      full = full or found
      told = f"{found / 1e9:.3f} GB ({found / full:.3f})"
      cells.setdefault(name, []).append(told)
  lines = [
    f"| optimizer | {' | '.join(sizes)} |",
    "|---" * (len(sizes) + 1) + "|",
  ]
  lines += [f"| {name} | {' | '.join(row)} |" for name, row in cells.items()]
  return "\n".join(lines)


def main(argv=None) -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--sizes", default=",".join(SIZES), help="with commas")
  sizes = parser.parse_args(argv).sizes.split(",")
  for size in sizes:
    if size not in SIZES:
      raise SystemExit(str(errors.unknown("GaLore has no size", size, SIZES)))
  print(f"{_machine.named()}; float32 but for 8-bit moments")
  print(table(sizes))


if __name__ == "__main__":
  main()
