"""How cost grows with length: attention against Hyena and Hedgehog.

  python -m benchmarks.long_convolution              # a CPU, a few minutes
  python -m benchmarks.long_convolution --quick

One causal mixer of `--width` on one row, forward and backward, compiled, its
filters drawn anew as in training. Contenders take turns, and the fewest
seconds of CPU time of `--repeats` turns count, so that what else runs on the
machine matters little; compare the columns of one run, not the seconds.
"""

import argparse
import importlib.metadata
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.context import Context
from jaxlm.layers.mixers import mixers

CONTENDERS = {
  "attention": dict(kind="attention", heads=4),
  "hedgehog": dict(kind="hedgehog", heads=4),
  "hyena": dict(kind="hyena"),
}


def main(given=None):
  """Prints a table; returns {length: {contender: seconds of CPU time}}."""
  args = arguments(given)
  lengths = [64, 128] if args.quick else [512, 1024, 2048, 4096, 8192]
  times = {length: measured(length, args) for length in lengths}
  print(
    f"width {args.width}, one row, float32, {platform.machine()}, jax "
    f"{importlib.metadata.version('jax')} on {jax.devices()[0].platform}"
  )
  print(table(times))
  return times


def arguments(given):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--width", type=int, default=64)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--quick", action="store_true")
  return parser.parse_args(given)


def measured(length, args) -> dict[str, float]:
  """Contender -> seconds of CPU time of one forward and backward."""
  steps = {name: step(name, length, args.width) for name in CONTENDERS}
  best = dict.fromkeys(steps, np.inf)
  for _ in range(1 if args.quick else args.repeats):
    for name, run in steps.items():
      start = time.process_time()
      jax.block_until_ready(run())
      best[name] = min(best[name], time.process_time() - start)
  return best


def step(name, length, width):
  """A compiled call that computes the gradient of all parameters and of x."""
  spec = dict(CONTENDERS[name], width=width, causal=True)
  if spec["kind"] == "hyena":
    spec["max_length"] = length
  mixer = mixers.build(spec)
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((1, length, width)), jnp.float32)
  ctx = Context(
    segments=jnp.ones((1, length), jnp.int32),
    positions=jnp.arange(length)[None],
  )
  variables = jax.jit(mixer.init)(jax.random.key(0), x, ctx)

  def loss(variables, x):
    return jnp.sum(jnp.square(mixer.apply(variables, x, ctx)))

  run = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(variables, x).compile()
  jax.block_until_ready(run(variables, x))
  return lambda: run(variables, x)


def table(times) -> str:
  """A row a length: milliseconds, and attention's over those of the others."""
  others = [name for name in CONTENDERS if name != "attention"]
  head = ["length", *CONTENDERS, *(f"attention / {name}" for name in others)]
  lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
  for length, row in times.items():
    cells = [str(length), *(f"{1e3 * row[name]:.1f} ms" for name in CONTENDERS)]
    cells += [f"{row['attention'] / row[name]:.2f}" for name in others]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


if __name__ == "__main__":
  main()
