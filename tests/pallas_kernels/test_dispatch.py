"""The choice of what runs: tables, names, refusals."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pallas_kernels import _dispatch, _platform
from pallas_kernels.flash_attention import (
  api,
  choose,
  flash_attention,
  implementations,
)
from pallas_kernels.flash_attention import bias as biases

OPS = (
  "flash_attention",
  "dynamic_convolution",
  "fft_convolution",
  "linear_attention",
)
KNOWN = ("reference", "chunked", "cudnn", "triton", "mosaic_tpu")
CASE = _dispatch.Case("flash_attention", "bfloat16", 64, 500)
H200 = _platform.device("gpu", "NVIDIA H200")
MEASURED = {
  "kind": "measured",
  "date": "2026-11-21",
  "jax": "0.11.2",
  "microseconds": {"triton": 50.0, "reference": 100.0},
}
BLOCKS = {"forward": {"block_q": 128, "block_k": 64}}


def measured(case=CASE, name="triton", blocks=BLOCKS, source=None, **more):
  return _dispatch.entry_of(case, name, blocks, source or MEASURED, **more)


def table(*entries, device="NVIDIA H200"):
  return {"format": 1, "device": device, "entries": list(entries)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Tables that are asked before the shipped ones."""
  monkeypatch.setenv(_dispatch.VARIABLE, str(tmp_path))
  return tmp_path


# The tables that are shipped.


def test_shipped_tables_are_valid_and_claim_nothing_unmeasured():
  found = sorted(_dispatch.FOLDER.glob("*.json"))
  assert {"cpu.json", "gpu.json", "tpu.json"} <= {path.name for path in found}
  for path in found:
    shipped = _dispatch.load(path)
    assert path.name == _dispatch.file_name(shipped["device"])
    for entry in shipped["entries"]:
      if entry["choose"] and entry["source"]["kind"] == "static":
        assert entry["implementation"] in ("reference", "chunked"), entry


@pytest.mark.parametrize("platform", _platform.PLATFORMS)
def test_every_platform_has_a_choice_for_every_op(platform):
  device = _platform.device(platform)
  for op in OPS:
    case = dataclasses.replace(CASE, op=op)
    choice = _dispatch.pick(case, device, KNOWN)
    assert choice.implementation in ("reference", "chunked")
    assert platform in choice.reason


def test_large_scores_are_made_in_pieces():
  small, large = dict(batch=4, heads=4), dict(batch=64, heads=64)
  for platform in _platform.PLATFORMS:
    assert choose(platform, length=1024, **small)[0] == "reference"
    name, why = choose(platform, length=1024, **large)
    assert name == "chunked" and "1 GiB" in why


# Choosing.


def test_a_measured_entry_is_chosen_and_its_number_told(folder):
  _dispatch.save(table(measured()), folder)
  choice = _dispatch.select(None, CASE, H200, KNOWN)
  assert choice.implementation == "triton" and choice.blocks == BLOCKS
  assert not choice.interpret
  assert "2.00 x the speed of the reference" in choice.reason
  assert "NVIDIA H200" in choice.reason and "0.11.2" in choice.reason


@pytest.mark.parametrize(
  "change",
  [
    dict(dtype="float32"),
    dict(width=65),
    dict(length=513),
    dict(length=256),
    dict(features=frozenset({"causal"})),
    dict(op="fft_convolution"),
  ],
)
def test_an_entry_speaks_of_its_own_case_alone(folder, change):
  _dispatch.save(table(measured()), folder)
  other = dataclasses.replace(CASE, **change)
  assert _dispatch.pick(other, H200, KNOWN).implementation == "reference"
  near = dataclasses.replace(CASE, length=257, width=33)
  assert _dispatch.pick(near, H200, KNOWN).implementation == "triton"


def test_other_devices_do_not_read_it(folder):
  _dispatch.save(table(measured()), folder)
  for device in (
    _platform.device("gpu", "NVIDIA H100 80GB HBM3"),
    _platform.device("gpu"),
    _platform.device("tpu", "TPU v6 lite"),
  ):
    assert _dispatch.pick(CASE, device, KNOWN).implementation == "reference"


def test_a_measured_reference_is_still_bounded_in_memory(folder):
  source = MEASURED | {"microseconds": {"triton": 99.0, "reference": 9.0}}
  _dispatch.save(table(measured(name="reference", source=source)), folder)
  assert _dispatch.pick(CASE, H200, KNOWN).implementation == "reference"
  large = dataclasses.replace(CASE, bytes=_dispatch.REFERENCE_BYTES)
  assert _dispatch.pick(large, H200, KNOWN).implementation == "chunked"


def test_blocks_come_from_the_nearest_length_by_name(folder):
  entries = [
    measured(dataclasses.replace(CASE, length=n), blocks={"size": n}, **more)
    for n, more in ((512, {}), (4096, {"choose": False}))
  ]
  _dispatch.save(table(*entries), folder)

  def blocks(length, name="triton", **change):
    case = dataclasses.replace(CASE, length=length, **change)
    return _dispatch.select(name, case, H200, KNOWN).blocks

  assert [blocks(n)["size"] for n in (64, 512, 1024, 2048, 9999)] == [
    512,
    512,
    512,
    4096,
    4096,
  ]
  assert blocks(512, "triton:interpret") == {"size": 512}
  assert blocks(512, dtype="float16") is None
  # An entry that is not to be chosen only tells its blocks.
  long = dataclasses.replace(CASE, length=4096)
  assert _dispatch.pick(long, H200, KNOWN).implementation == "reference"


def test_a_choice_that_this_jax_lacks_is_passed_over(folder):
  _dispatch.save(table(measured()), folder)
  choice = _dispatch.pick(CASE, H200, ("reference", "chunked"))
  assert choice.implementation == "reference"


def test_a_table_that_is_written_anew_is_read_anew(folder):
  path = _dispatch.save(table(), folder)
  assert _dispatch.pick(CASE, H200, KNOWN).implementation == "reference"
  path.write_text(json.dumps(table(measured())))
  assert _dispatch.pick(CASE, H200, KNOWN).implementation == "triton"


# Tables as files.


def test_tables_survive_a_round_trip(tmp_path):
  written = table(measured(), measured(choose=False))
  path = _dispatch.save(written, tmp_path)
  assert path.name == "nvidia_h200.json"
  assert _dispatch.load(path) == written
  assert _dispatch.load(_dispatch.save(table(), tmp_path)) == table()


def test_merge_replaces_what_speaks_of_the_same_case():
  general = dict(_dispatch.load(_dispatch.FOLDER / "gpu.json")["entries"][0])
  old = table(measured(), measured(choose=False, blocks={"size": 1}), general)
  source = MEASURED | {"date": "2027-01-01"}
  other = dataclasses.replace(CASE, length=8192)
  new = measured(
    name="reference", source={**source, "microseconds": {"reference": 1.0}}
  )
  merged = _dispatch.merge(old, [new, measured(other)])
  assert merged["entries"] == [
    new,
    measured(other),
    measured(choose=False, blocks={"size": 1}),
    general,
  ]


BROKEN = {
  "format": (dict(format=2), "format 2"),
  "device": (dict(device=""), "device"),
  "more": (dict(extra=1), "format, device and entries"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables_are_refused(name):
  change, message = BROKEN[name]
  with pytest.raises(ValueError, match=message):
    _dispatch.validate(table() | change, "here")


WRONG = {
  "field": (dict(more=1), "has exactly"),
  "width": (dict(width=65), "width 65 is no bucket"),
  "length": (dict(length=True), "length True is no bucket"),
  "features": (dict(features=["b", "a"]), "not sorted"),
  "bytes": (dict(bytes=[1]), "bytes are"),
  "choose": (dict(choose="yes"), "choose is 'yes'"),
  "blocks": (dict(blocks=[1]), r"blocks are \[1\]"),
  "source": (dict(source={}), "neither measured nor static"),
  "static": (dict(source={"kind": "static"}), "needs a note"),
  "times": (dict(source={"kind": "measured"}), "date, jax and microseconds"),
  "alone": (
    dict(source=MEASURED | {"microseconds": {"triton": 1.0}}),
    "must both have been measured",
  ),
  "slower": (
    dict(source=MEASURED | {"microseconds": {"triton": 2, "reference": 1}}),
    "triton is not the fastest",
  ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_entries_are_refused(name):
  change, message = WRONG[name]
  with pytest.raises(ValueError, match=f"entry 0: .*{message}"):
    _dispatch.validate(table(measured() | change), "here")


def test_a_file_that_is_no_table_is_named(folder):
  (folder / "cpu.json").write_text("{")
  with pytest.raises(ValueError, match="cpu.json is not JSON"):
    choose("cpu")


def test_blocks_are_built_with_what_they_hold():
  @dataclasses.dataclass(frozen=True)
  class Launch:
    block_q: int
    block_k: int
    warps: int = 4

  @dataclasses.dataclass(frozen=True)
  class Blocks:
    forward: Launch

  assert _dispatch.from_plain(Blocks, BLOCKS) == Blocks(Launch(128, 64))
  with pytest.raises(ValueError, match="Blocks has no backward"):
    _dispatch.from_plain(Blocks, {"backward": {}})
  with pytest.raises(ValueError, match="Launch of .*block_k"):
    _dispatch.from_plain(Blocks, {"forward": {"block_q": 1}})


# Naming an implementation.


def arrays(length=8, dtype=jnp.float32):
  return (jnp.ones((2, length, 2, 16), dtype),) * 3


def test_unknown_names_are_told_the_nearest():
  with pytest.raises(NotImplementedError, match="did you mean 'triton'"):
    flash_attention(*arrays(), implementation="tritno")
  with pytest.raises(NotImplementedError, match="mosaic_tpu:interpret"):
    flash_attention(*arrays(), implementation="mosaic_tpu:interpreted")
  with pytest.raises(NotImplementedError, match="is not one of"):
    flash_attention(*arrays(), implementation="chunked:interpret")


@pytest.mark.parametrize(
  "name", ["triton", "mosaic_gpu", "mosaic_tpu", "cudnn"]
)
def test_a_named_kernel_needs_its_device(name):
  with pytest.raises(NotImplementedError, match=f"'{name}' needs a .*for cpu"):
    flash_attention(*arrays(), implementation=name)


def test_the_refusal_of_an_interpretable_kernel_says_so():
  with pytest.raises(NotImplementedError, match="'triton:interpret' runs any"):
    flash_attention(*arrays(), implementation="triton")


def test_a_backend_that_cannot_be_imported_says_why():
  with pytest.raises(NotImplementedError, match="cannot be imported .*nowhere"):
    _dispatch.load_backend("pallas_kernels.nowhere:attend")


def test_every_backend_is_there():
  for name, path in api._BACKENDS.items():
    assert callable(_dispatch.load_backend(path)), name
  assert "triton:interpret" in implementations()


# What is asked for.


def test_the_case_of_a_call():
  query, key, value = arrays(length=24, dtype=jnp.bfloat16)
  case = api.case_of(query, key, value)
  assert case == _dispatch.Case(
    "flash_attention", "bfloat16", 16, 24, frozenset(), 4 * 2 * 2 * 24 * 24
  )
  slopes = biases.Alibi(jnp.ones(2))
  shared = biases.Dense(jnp.ones((1, 2, 24, 24)))
  case = api.case_of(
    query,
    key[:, :8, :1],
    value[:, :8, :1, :4],
    bias=biases.add(slopes, biases.add(shared, biases.Dense(query))),
    query_segments=np.ones((2, 24)),
    query_offset=3,
    causal=True,
    window=(1, 1),
    soft_cap=3.0,
    dropout_rate=0.1,
    with_probabilities=True,
  )
  assert case.length == 8 and case.features == {
    "alibi",
    "dense",
    "dense_shared",
    "causal",
    "window",
    "segments",
    "soft_cap",
    "dropout",
    "shared_heads",
    "value_dim",
    "cross",
    "offset",
    "probabilities",
  }


def test_the_bytes_are_those_of_one_device():
  mesh = jax.sharding.AbstractMesh((4, 2), ("data", "tensor"))
  with jax.sharding.use_abstract_mesh(mesh):
    rows = [
      api.case_of(*(jax.ShapeDtypeStruct((b, 8, h, 4), jnp.float32),) * 3).bytes
      for b, h in ((8, 2), (8, 3), (6, 2))
    ]
  assert rows == [8 * 2 * 256 // 8, 8 * 3 * 256 // 4, 6 * 2 * 256 // 2]


def test_probabilities_come_from_xla():
  with pytest.raises(NotImplementedError, match="keeps no probabilities"):
    flash_attention(
      *arrays(), implementation="triton:interpret", with_probabilities=True
    )
  out, weights = flash_attention(*arrays(), with_probabilities=True)
  np.testing.assert_allclose(weights, 1 / 8, rtol=1e-6)
  np.testing.assert_allclose(out, 1.0, rtol=1e-6)


def test_kernels_need_an_offset_that_is_known():
  def run(offset, name):
    return flash_attention(
      *arrays(), query_offset=offset, causal=True, implementation=name
    )

  with pytest.raises(NotImplementedError, match="query_offset that is known"):
    jax.jit(run, static_argnums=1)(3, "triton:interpret")
  out = jax.jit(run, static_argnums=1)(3, None)
  np.testing.assert_allclose(out, 1.0, rtol=1e-6)


def test_what_a_table_chose_wrongly_falls_back(folder):
  """The choice is ours to mend, unlike a name that the caller gave."""
  query, key, value = arrays()
  case = api.case_of(query, key, value)
  source = MEASURED | {"microseconds": {"triton": 1.0, "reference": 2.0}}
  entry = measured(case, "triton", blocks=None, source=source)
  _dispatch.save(table(entry), folder)
  called = []

  def refuse(static, operands):
    called.append(operands)
    raise NotImplementedError("not today")

  mesh = jax.sharding.AbstractMesh(
    (1,),
    ("data",),
    (jax.sharding.AxisType.Auto,),
    abstract_device=jax.sharding.AbstractDevice(
      device_kind="NVIDIA H200", num_cores=132, platform="gpu"
    ),
  )
  with pytest.MonkeyPatch.context() as patch:
    load = _dispatch.load_backend
    patch.setattr(
      _dispatch,
      "load_backend",
      lambda path: refuse if "triton" in path else load(path),
    )
    with jax.sharding.use_abstract_mesh(mesh):
      shape = jax.eval_shape(flash_attention, query, key, value)
      with pytest.raises(NotImplementedError, match="not today"):
        jax.eval_shape(
          lambda *x: flash_attention(*x, implementation="triton"),
          query,
          key,
          value,
        )
  assert len(called) == 2 and shape.shape == query.shape


def test_attention_needs_jax_alone_and_not_all_of_it():
  """In a fresh interpreter, whose jax has lost Pallas' backends."""
  program = """
import sys
for name in ("triton", "mosaic_gpu", "tpu"):
  sys.modules["jax.experimental.pallas." + name] = None  # cannot be imported
import jax.numpy as jnp
from pallas_kernels.flash_attention import choose, flash_attention
x = jnp.ones((1, 4, 2, 8))
assert flash_attention(x, x, x).shape == x.shape
for name in ("triton", "mosaic_tpu", "mosaic_gpu"):
  try:
    flash_attention(x, x, x, implementation=name + ":interpret")
  except NotImplementedError as error:
    assert "cannot be imported with this jax" in str(error), error
  else:
    raise AssertionError(name)
found = [m for m in ("jaxlm", "flax", "optax") if m in sys.modules]
assert not found, found
print(choose()[0])
"""
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == "reference"
