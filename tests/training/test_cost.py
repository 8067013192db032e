"""Costs against numbers worked out by hand; the run card; dry runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths, sharding
from jaxlm.errors import UserError
from jaxlm.training import cost, loop, plan, run_card
from tests.training import runs, toy


class FakeDevice:
  platform, process_index = "gpu", 0

  def __init__(self, kind):
    self.device_kind = kind


@pytest.mark.parametrize(
  "kind, peak",
  [
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA A100-SXM4-80GB", 312e12),
    ("Tesla T4", 65e12),
    ("NVIDIA L40S", 181e12),
    ("NVIDIA L4", 121e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5p", 459e12),
    ("TPU v6 lite", 918e12),
  ],
)
def test_peaks_are_found_by_the_kind_of_device(kind, peak):
  resolved = cost.resolve(cost.Rates(), [FakeDevice(kind)] * 4)
  assert resolved.peak_flops == peak and resolved.devices == 4


def test_unknown_devices_have_no_peak_until_told():
  devices = [FakeDevice("Vapour 9")]
  resolved = cost.resolve(cost.Rates(), devices)
  assert resolved.peak_flops is None
  assert resolved.dollars_per_device_hour is None
  assert cost.mfu(1e12, 1.0, resolved) is None
  assert cost.bill(resolved, 3600.0) == {
    "device_hours": 1.0,
    "dollars": None,
    "kwh": None,
    "kg_co2e": None,
  }
  told = cost.resolve(cost.Rates(peak_flops=1e12), devices)
  assert cost.mfu(5e11, 1.0, told) == 0.5


def test_eight_fake_cpus_are_one_machine_without_a_peak():
  resolved = cost.resolve(cost.Rates(), jax.devices())
  assert resolved.devices == 1 and resolved.peak_flops is None


def test_the_bill():
  rates = cost.Rates(
    dollars_per_device_hour=2.0, watts_per_device=500, kg_co2e_per_kwh=0.4
  )
  resolved = cost.resolve(rates, [FakeDevice("NVIDIA A100")] * 8)
  paid = cost.bill(resolved, 1800.0)
  assert paid == {
    "device_hours": 4.0,
    "dollars": 8.0,
    "kwh": 2.0,
    "kg_co2e": pytest.approx(0.8),
  }


def test_the_formula_of_bert_base():
  """85M weights a token, 12 layers of 768 at length 128, 19 predictions."""
  got = cost.formula_flops(
    85_000_000,
    128,
    attention=[(768, 128)] * 12,
    head_parameters=24_000_000,
    head_tokens=19,
  )
  assert got == 6 * 85e6 * 128 + 6 * 24e6 * 19 + 12 * 12 * 768 * 128 * 128


def test_xla_counts_a_product_and_a_loop_once():
  w = jnp.ones((64, 64))
  plain = jax.jit(lambda w: w @ w).lower(w).compile()
  assert cost.xla_flops(plain) == pytest.approx(2 * 64**3, rel=0.01)
  assert not cost.has_loops(plain)
  body = lambda c, _: (c @ w, None)
  looped = jax.jit(lambda w: jax.lax.scan(body, w, None, length=8)[0])
  looped = looped.lower(w).compile()
  assert cost.has_loops(looped)
  assert cost.xla_flops(looped) < 2 * 2 * 64**3  # of 8 turns


def test_xla_flops_add_up_over_devices():
  mesh = sharding.make_mesh()
  x = jax.ShapeDtypeStruct(
    (64, 32), jnp.float32, sharding=sharding.batch_sharding(mesh)
  )
  compiled = jax.jit(lambda x: x @ jnp.ones((32, 32))).lower(x).compile()
  assert cost.xla_flops(compiled) == pytest.approx(2 * 64 * 32 * 32, rel=0.05)


def test_a_backend_without_analysis_is_unknown():
  class Compiled:
    def cost_analysis(self):
      raise NotImplementedError

  assert cost.xla_flops(Compiled()) is None


def test_memory_is_that_of_one_device():
  run = runs.make(devices=4, microbatches=1)
  state = loop.abstract_state(run)
  compiled = loop.compile_step(run, state)
  memory = cost.memory(state, compiled)
  # The donated state is written in place.
  aliased = compiled.memory_analysis().alias_size_in_bytes
  assert aliased == cost.shard_bytes(state)
  # embed is split 4 ways, the rest is whole: table 17 x 8, wide 8 x 16 + 16,
  # out 16 x 17, float32.
  expected = (17 * 2 + 2 * 16 + 16 + 16 * 17) * 4
  assert memory.parameters == memory.gradients == expected
  assert memory.optimizer == 2 * expected + 8  # two moments, two counts
  assert memory.total >= memory.parameters + memory.optimizer


def test_settings_are_checked():
  with pytest.raises(UserError, match="config.log takes no 'evry'.*'every'"):
    plan.settings(plan.LogSettings, {"evry": 3}, "config.log")
  with pytest.raises(UserError, match="config.log.every is -1"):
    plan.settings(plan.LogSettings, {"every": -1}, "config.log")
  for value in ("10", 2.5, True):
    with pytest.raises(UserError, match="config.log.every is.*type int"):
      plan.settings(plan.LogSettings, {"every": value}, "config.log")
  made = plan.settings(cost.Rates, {"peak_flops": 2}, "config.cost")
  assert made.peak_flops == 2


def test_the_run_card(tmp_path):
  rates = cost.Rates(peak_flops=1e9, dollars_per_device_hour=3600.0)
  now = [0.0]

  def clock():
    now[0] += 0.125
    return now[0]

  run = runs.make(
    steps=4, rates=rates, flops_per_step=1e6, facts={"data_sha256": "d"}
  )
  result = loop.train(run, tmp_path, clock=clock)
  card = json.loads((tmp_path / "run.json").read_text())
  assert card == json.loads(json.dumps(result.card))
  assert card["finished"] and card["step"] == 4
  assert card["parameters"] == paths.count(result.state.params) == 552
  assert card["facts"] == {"data_sha256": "d"} and card["config"]["seed"] == 5
  assert card["versions"]["jax"] == jax.__version__
  assert len(card["git"]["commit"]) == 40
  flops, throughput = card["flops"], card["throughput"]
  assert flops["per_step_formula"] == 1e6 and flops["per_step_xla"] > 0
  assert flops["xla_has_loops"]  # two microbatches
  assert throughput["total_flops"] == 4e6
  seconds = throughput["train_seconds"]
  assert throughput["mfu"] == pytest.approx(4e6 / seconds / 1e9)
  tokens = sum(
    int((toy.task().batch_at(5, s)["segments"] > 0).sum()) for s in range(4)
  )
  assert throughput["tokens"] == tokens
  assert throughput["tokens_per_second"] == pytest.approx(tokens / seconds)
  assert seconds < throughput["loop_seconds"]  # evaluation, saving
  spent = card["sessions"][0]["seconds"]
  assert card["cost"]["dollars"] == pytest.approx(spent)
  assert card["rates"]["kg_co2e_per_kwh"] == 0.445


def test_without_a_formula_loops_give_no_mfu(tmp_path):
  loop.train(runs.make(steps=2, rates=cost.Rates(peak_flops=1e9)), tmp_path)
  card = json.loads((tmp_path / "run.json").read_text())
  assert card["throughput"]["mfu"] is None
  assert "read the formula" in card["flops"]["note"]


def test_git_state_is_none_outside_a_checkout(monkeypatch, tmp_path):
  monkeypatch.setattr(
    run_card, "__file__", str(tmp_path / "a" / "b" / "run_card.py")
  )
  assert run_card.git_state() is None


def test_the_fixed_part_counts_bytes_not_bits():
  leaf = jax.device_put(np.zeros((3, 5), np.float32))
  assert cost.shard_bytes({"a": leaf, "b": leaf}) == 120
