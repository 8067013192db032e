"""What a run costs: FLOPs, MFU, memory, device-hours, money, energy, CO2e."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


class Device(NamedTuple):
  """What is assumed of a device.

  Peaks are the makers' dense figures for 16-bit matrices with float32 sums;
  watts are boards' limits; dollars are round on-demand list prices of 2025.
  Change all of them in `config.cost`.
  """

  peak_flops: float
  watts: float
  dollars_per_hour: float


# Part of `jax.Device.device_kind`, lower case; the first that matches counts.
# A device of TPU v2 and v3 is a core, half a chip.
DEVICES: Mapping[str, Device] = {
  "b200": Device(2250e12, 1000, 6.0),
  "h200": Device(989e12, 700, 3.5),
  "h100 pcie": Device(756e12, 350, 2.5),
  "h100": Device(989e12, 700, 3.0),
  "a100": Device(312e12, 400, 1.5),
  "a10": Device(125e12, 150, 0.75),
  "l40": Device(181e12, 300, 1.0),
  "l4": Device(121e12, 72, 0.6),
  "v100": Device(125e12, 300, 0.8),
  "t4": Device(65e12, 70, 0.35),
  "rtx 4090": Device(165e12, 450, 0.4),
  "rtx 3090": Device(71e12, 350, 0.25),
  "tpu v6": Device(918e12, 300, 2.7),
  "tpu v5 lite": Device(197e12, 200, 1.2),
  "tpu v5e": Device(197e12, 200, 1.2),
  "tpu v5": Device(459e12, 350, 4.2),
  "tpu v4": Device(275e12, 192, 3.22),
  "tpu v3": Device(61.5e12, 110, 1.0),
  "tpu v2": Device(22.5e12, 70, 0.56),
}
# A CPU has no single peak, and counts as one device a process.
CPU = Device(0.0, 65, 0.10)


@dataclasses.dataclass(frozen=True)
class Rates:
  """`config.cost`; 0 takes the assumption of `DEVICES`, where there is one.

  Attributes:
    dollars_per_device_hour: price.
    watts_per_device: power drawn, host and cooling left out.
    kg_co2e_per_kwh: of the electricity. 0.445 is about the world's mean of
      2024 (IEA).
    peak_flops: of a device, FLOPs a second.
  """

  dollars_per_device_hour: float = 0.0
  watts_per_device: float = 0.0
  kg_co2e_per_kwh: float = 0.445
  peak_flops: float = 0.0


class Resolved(NamedTuple):
  """Rates of the devices at hand; None is unknown."""

  device_kind: str
  devices: int
  peak_flops: float | None
  watts_per_device: float | None
  dollars_per_device_hour: float | None
  kg_co2e_per_kwh: float


def resolve(rates: Rates, devices: Sequence[jax.Device]) -> Resolved:
  """The rates that count for these devices."""
  devices = list(devices)
  kind = devices[0].device_kind
  if devices[0].platform == "cpu":
    known: Device | None = CPU
    count = len({d.process_index for d in devices})
  else:
    known = next((v for k, v in DEVICES.items() if k in kind.lower()), None)
    count = len(devices)
  known = known or Device(0.0, 0.0, 0.0)
  return Resolved(
    kind,
    count,
    rates.peak_flops or known.peak_flops or None,
    rates.watts_per_device or known.watts or None,
    rates.dollars_per_device_hour or known.dollars_per_hour or None,
    rates.kg_co2e_per_kwh,
  )


def formula_flops(
  parameters: int,
  tokens: int,
  *,
  attention: Sequence[tuple[int, int]] = (),
  head_parameters: int = 0,
  head_tokens: int = 0,
) -> float:
  """FLOPs of one training step by the usual formula.

  Each weight of a matrix product costs 2 FLOPs a token forward and 4 backward
  (Kaplan et al., arXiv:2001.08361); scores and their use in a layer cost
  12 * width * span a token (Chowdhery et al., arXiv:2204.02311, appendix B).
  Recomputation in the backward pass is not counted.

  Args:
    parameters: weights that every token meets: without embedding tables,
      which are read, and without heads.
    tokens: tokens of a step, padding included, since it is computed too.
    attention: (width, span) of each layer; the span is the row's length, or
      the window where it is shorter.
    head_parameters: weights of heads, a tied table included.
    head_tokens: tokens that reach the heads (the predictions of masked LM).
  """
  flops = 6.0 * parameters * tokens + 6.0 * head_parameters * head_tokens
  return flops + sum(12.0 * width * span for width, span in attention) * tokens


def xla_flops(compiled) -> float | None:
  """FLOPs that XLA counts in a compiled step over all its devices, or None.

  XLA counts the body of a loop once, however often it runs: with microbatches
  or scanned layers the number is too small (`has_loops`).
  """
  try:
    analysis = compiled.cost_analysis()
  except Exception:  # some backends have none
    return None
  if isinstance(analysis, (list, tuple)):
    analysis = analysis[0] if analysis else {}
  flops = (analysis or {}).get("flops", 0.0)
  devices = {
    d
    for s in jax.tree.leaves(compiled.input_shardings)
    for d in getattr(s, "device_set", ())
  }
  return float(flops) * max(len(devices), 1) if flops > 0 else None


def has_loops(compiled) -> bool:
  """Whether a compiled step contains loops."""
  return " while(" in (compiled.as_text() or "")


class Memory(NamedTuple):
  """Bytes of the fullest device."""

  parameters: int
  optimizer: int
  gradients: int
  temporary: int | None
  total: int | None


def memory(state, compiled=None) -> Memory:
  """Memory that a step needs on one device.

  Args:
    state: a TrainState of arrays or shapes, with shardings.
    compiled: the compiled step; its temporary buffers hold the activations,
      and the gradients, which are told apart here for the reader.
  """
  parameters = shard_bytes(state.params)
  optimizer = shard_bytes(state.opt_state)
  temporary = total = None
  analysis = None if compiled is None else compiled.memory_analysis()
  if analysis is not None:
    temporary = int(analysis.temp_size_in_bytes)
    total = (
      temporary
      + int(analysis.argument_size_in_bytes)
      + int(analysis.output_size_in_bytes)
      - int(analysis.alias_size_in_bytes)
    )
  return Memory(parameters, optimizer, parameters, temporary, total)


def shard_bytes(tree) -> int:
  """Bytes of a tree on one device."""
  return sum(
    int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def bill(resolved: Resolved, seconds: float) -> dict[str, Any]:
  """Device-hours, dollars, kWh and CO2e of a wall-clock time; None: unknown."""
  hours = seconds / 3600 * resolved.devices
  times = lambda rate: None if rate is None else hours * rate
  kwh = times(resolved.watts_per_device)
  kwh = None if kwh is None else kwh / 1000
  return {
    "device_hours": hours,
    "dollars": times(resolved.dollars_per_device_hour),
    "kwh": kwh,
    "kg_co2e": None if kwh is None else kwh * resolved.kg_co2e_per_kwh,
  }


def mfu(flops: float | None, seconds: float, resolved: Resolved):
  """Share of the devices' peak that `flops` in `seconds` is, or None."""
  if not flops or not resolved.peak_flops or seconds <= 0:
    return None
  return flops / seconds / (resolved.peak_flops * resolved.devices)
