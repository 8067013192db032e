"""The kernels against what a user would pick instead, in one run.

  python -m benchmarks.kernels                        # on a GPU or TPU
  python -m benchmarks.kernels --quick                # tiny shapes, any device
  python -m benchmarks.kernels --only=packed-8192     # some of the cases

Contenders: every implementation of jaxlm's ops; `jax.nn.dot_product_attention`
on XLA and cuDNN; jax's own Pallas attention; PyTorch's
`scaled_dot_product_attention` where torch sees a GPU. One that cannot do a
case (or gives other gradients) is named with the reason. Time is the median of
warm runs, forward and forward with all gradients, on random data; the floor is
what a plain matrix product and a plain copy, measured in the same run, would
take for the least work and bytes of the case.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp

from benchmarks import _kernel_cases as cases


@dataclasses.dataclass(frozen=True)
class Roofline:
  """What the device does at best, measured.

  Attributes:
    flops: of a large matrix product, a second.
    bytes: read and written by a copy, a second.
  """

  flops: float
  bytes: float

  def floor(self, work: cases.Work) -> float:
    """Seconds that `work` takes at least."""
    return max(work.flops / self.flops, work.bytes / self.bytes)


def main(arguments=None) -> dict:
  """Measures, prints the table, returns what it holds."""
  flags = _flags().parse_args(arguments)
  dtype = jnp.dtype(flags.dtype)
  chosen = cases.quick(dtype) if flags.quick else cases.paper_shapes(dtype)
  if flags.only:
    wanted = flags.only.split(",")
    unknown = set(wanted) - {case.name for case in chosen}
    if unknown:
      raise SystemExit(
        f"No case {sorted(unknown)}; known: "
        f"{', '.join(case.name for case in chosen)}"
      )
    chosen = [case for case in chosen if case.name in wanted]
  roofline = measure_roofline(dtype, flags.repeats, small=flags.quick)
  report = {"about": _about(flags, roofline), "cases": {}}
  for case in chosen:
    _say(case.name)
    report["cases"][case.name] = _case(case, roofline, flags.repeats)
  print(table(report))
  if flags.json:
    pathlib.Path(flags.json).write_text(json.dumps(report, indent=2))
  return report


def _flags() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--dtype", default="bfloat16")
  add("--repeats", type=int, default=20, help="timed runs, after 3 warm ones")
  add("--only", default="", help="names of cases, separated by commas")
  add("--quick", action="store_true", help="tiny shapes")
  add("--json", default="", help="also write the numbers here")
  return parser


def seconds(function: Callable, arguments: tuple, repeats: int) -> list[float]:
  """Sorted wall-clock times of `repeats` warm runs.

  Args:
    function: returns a pytree of arrays, or an object that `wait`s.
    arguments: of the function.
    repeats: how many.
  """
  for _ in range(3):
    _wait(function(*arguments))
  found = []
  for _ in range(repeats):
    start = time.perf_counter()
    _wait(function(*arguments))
    found.append(time.perf_counter() - start)
  return sorted(found)


def _wait(result) -> None:
  if hasattr(result, "wait"):
    result.wait()
  else:
    jax.block_until_ready(result)


def measure_roofline(dtype, repeats: int, *, small: bool) -> Roofline:
  """A square matrix product and a copy of the device's best speed."""
  side = 512 if small else 8192
  key = jax.random.key(0)
  matrix = jax.random.normal(key, (side, side), dtype)
  product = jax.jit(
    lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32).astype(dtype)
  )
  took = statistics.median(seconds(product, (matrix,), repeats))
  flops = 2 * side**3 / took
  long = jnp.zeros(2**20 if small else 2**29, dtype)
  copied = statistics.median(
    seconds(jax.jit(lambda a: a + jnp.ones((), dtype)), (long,), repeats)
  )
  return Roofline(flops, 2 * long.nbytes / copied)


def _case(case, roofline: Roofline, repeats: int) -> dict:
  """Times of every contender, or why there is none."""
  found = {}
  for name, make in case.contenders.items():
    found[name] = {}
    for direction in ("forward", "both"):
      try:
        function, arguments = make(direction)
        times = seconds(function, arguments, repeats)
      except Exception as error:
        # Whatever keeps a contender from running is a result here.
        found[name][direction] = {"refused": _first_line(error)}
        break
      found[name][direction] = {
        "median": statistics.median(times),
        "fastest": times[0],
        "slowest": times[-1],
      }
  return {
    "floor": {
      "forward": roofline.floor(case.forward),
      "both": roofline.floor(case.both),
    },
    "flops": {"forward": case.forward.flops, "both": case.both.flops},
    "contenders": found,
  }


def _first_line(error: Exception) -> str:
  text = str(error).strip() or "no message"
  return f"{type(error).__name__}: {text.splitlines()[0][:160]}"


def _about(flags, roofline: Roofline) -> dict:
  device = jax.devices()[0]
  shown = " ".join(
    f"--{key}" if value is True else f"--{key}={value}"
    for key, value in vars(flags).items()
    if value != _flags().get_default(key) and key != "json"
  )
  return {
    "command": f"python benchmarks/kernels.py {shown}".strip(),
    "date": datetime.date.today().isoformat(),
    "device": device.device_kind,
    "platform": device.platform,
    "platform_version": device.client.platform_version.splitlines()[0],
    "versions": {
      "python": platform.python_version(),
      "jax": jax.__version__,
      **cases.torch_version(),
    },
    "dtype": flags.dtype,
    "repeats": flags.repeats,
    "load": os.getloadavg()[0],
    "matmul_tflops": roofline.flops / 1e12,
    "copy_gbytes": roofline.bytes / 1e9,
  }


def table(report: dict) -> str:
  """The report in Markdown."""
  about = report["about"]
  versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
  lines = [
    f"`{about['command']}`  ",
    f"{about['date']}; {about['device']} ({about['platform_version']}); "
    f"{versions}; {about['dtype']}; medians of {about['repeats']} warm runs; "
    f"matrix product {about['matmul_tflops']:.2f} TFLOP/s, copy "
    f"{about['copy_gbytes']:.1f} GB/s in the same run.",
    "",
    "| case | contender | forward, us | forward and backward, us | "
    "TFLOP/s | of the floor |",
    "|---|---|---|---|---|---|",
  ]
  for name, case in report["cases"].items():
    for contender, found in case["contenders"].items():
      lines.append(_row(name, contender, found, case))
  return "\n".join(lines)


def _row(name, contender, found, case) -> str:
  refused = [f["refused"] for f in found.values() if "refused" in f]
  ran = [d for d in ("forward", "both") if "median" in found.get(d, {})]
  times = {d: found[d]["median"] for d in ran}
  cells = [
    f"{times[d] * 1e6:,.1f}" if d in times else "-" for d in ("forward", "both")
  ]
  rates = "/".join(
    f"{case['flops'][d] / times[d] / 1e12:.3g}" for d in ran if case["flops"][d]
  )
  shares = "/".join(f"{times[d] / case['floor'][d]:.2f}x" for d in ran)
  last = "; ".join([shares] * bool(shares) + refused)
  return (
    f"| {name} | {contender} | {cells[0]} | {cells[1]} | {rates or '-'} "
    f"| {last} |"
  )


def _say(message: str) -> None:
  print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
  main()
