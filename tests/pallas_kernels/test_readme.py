"""The README's table of features says what the code does.

`python -m tests.pallas_kernels.test_readme` prints the table anew.
"""

import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

import pallas_kernels
from pallas_kernels import _dispatch
from pallas_kernels.flash_attention import api, flash_attention
from pallas_kernels.flash_attention import bias as biases

README = pathlib.Path(pallas_kernels.__file__).parent / "README.md"
KINDS = {"cpu": "cpu", "gpu": "NVIDIA H200", "tpu": "TPU v6 lite"}
L = 128  # a size that no backend has to pad


def shape(*sizes, dtype=jnp.bfloat16):
  return jax.ShapeDtypeStruct(sizes, dtype)


def floats(*sizes):
  return shape(*sizes, dtype=jnp.float32)


def ints(*sizes):
  return shape(*sizes, dtype=jnp.int32)


SEGMENTS = ints(2, L)
DISTANCES = 2 * L - 1
DISENTANGLED = dict(
  c2p=shape(2, L, 4, 8),
  p2c=shape(2, L, 4, 8),
  c2p_buckets=ints(DISTANCES),
  p2c_buckets=ints(DISTANCES),
)

# Row of the table -> changes to a plain call of [2, 128, 4, 64] in bfloat16;
# shapes are differentiable arguments, but for those of integers.
FEATURES = {
  "bfloat16": {},
  "float16": dict(dtype=jnp.float16),
  "float32": dict(dtype=jnp.float32),
  "head_dim 32": dict(head_dim=32),
  "head_dim 128": dict(head_dim=128),
  "head_dim 256": dict(head_dim=256),
  "head_dim 72": dict(head_dim=72),
  "value_dim other than head_dim": dict(value_dim=32),
  "fewer key heads": dict(key_heads=2),
  "any length": dict(queries=77, keys=77),
  "more keys than queries": dict(keys=2 * L),
  "causal": dict(causal=True),
  "window": dict(window=(16, 16)),
  "segments (packing, padding)": dict(segments=SEGMENTS),
  "query_offset": dict(query_offset=L, keys=2 * L, causal=True),
  "query_offset, traced": dict(query_offset=ints(), keys=2 * L),
  "soft cap": dict(soft_cap=30.0),
  "dropout": dict(dropout_rate=0.1),
  "ALiBi": dict(bias=biases.Alibi(floats(4))),
  "relative buckets (T5)": dict(bias=biases.Buckets(floats(8, 4))),
  "Toeplitz": dict(bias=biases.Toeplitz(floats(4, DISTANCES))),
  "dense bias, shared by rows": dict(bias=biases.Dense(shape(1, 4, L, L))),
  "dense bias of each row": dict(bias=biases.Dense(shape(2, 4, L, L))),
  "untied positions (TUPE)": dict(
    bias=biases.Untied(floats(1, L, 4, 64), floats(1, L, 4, 64))
  ),
  "reset of first tokens (TUPE)": dict(
    bias=biases.Reset(
      biases.Toeplitz(floats(4, DISTANCES)),
      floats(2, 4),
      ints(2, L),
      ints(2, L),
    )
  ),
  "disentangled (DeBERTa)": dict(bias=biases.Disentangled(**DISENTANGLED)),
  "with_probabilities": dict(with_probabilities=True),
}


def probe(name: str, changes: dict) -> str | None:
  """Why an implementation refuses a call and its gradient, or None."""
  changes = dict(changes)
  dtype = changes.pop("dtype", jnp.bfloat16)
  head_dim = changes.pop("head_dim", 64)
  value_dim = changes.pop("value_dim", head_dim)
  queries, keys = changes.pop("queries", L), changes.pop("keys", L)
  key_heads = changes.pop("key_heads", 4)
  arrays = dict(
    query=shape(2, queries, 4, head_dim, dtype=dtype),
    key=shape(2, keys, key_heads, head_dim, dtype=dtype),
    value=shape(2, keys, key_heads, value_dim, dtype=dtype),
  )
  for field in ("bias", "segments", "query_offset"):
    if jax.tree.leaves(changes.get(field)) and not isinstance(
      changes[field], int
    ):
      arrays[field] = changes.pop(field)
  if "dropout_rate" in changes:
    arrays["dropout_key"] = jax.eval_shape(lambda: jax.random.key(0))

  def loss(arrays):
    out = flash_attention(**arrays, **changes, implementation=name)
    return jnp.sum(jax.tree.leaves(out)[0].astype(jnp.float32))

  try:
    with jax.sharding.use_abstract_mesh(mesh_for(name)):
      jax.eval_shape(jax.grad(loss, allow_int=True), arrays)
  except NotImplementedError as error:
    # The last thing that cuDNN is asked for is itself.
    found = "cuDNN is not detected" in str(error)
    return None if found else str(error)
  return None


def mesh_for(name) -> AbstractMesh:
  platform = _dispatch.RUNS_ON.get(name, "cpu")
  device = AbstractDevice(
    device_kind=KINDS[platform], num_cores=132, platform=platform
  )
  return AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=device)


def row(feature: str) -> str:
  marks = [
    "yes" if probe(name, FEATURES[feature]) is None else "-"
    for name in api._BACKENDS
  ]
  return f"| {feature} | {' | '.join(marks)} |"


def head() -> list[str]:
  columns = ["", *(f"`{name}`" for name in api._BACKENDS)]
  return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


@functools.cache
def lines() -> tuple[str, ...]:
  return tuple(README.read_text(encoding="utf-8").splitlines())


def test_the_table_has_all_backends_and_features():
  first = lines().index(head()[0])
  assert lines()[first + 1] == head()[1]
  rows = lines()[first + 2 : first + 2 + len(FEATURES)]
  assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [
    *FEATURES
  ]
  assert not lines()[first + 2 + len(FEATURES)].startswith("|")


@pytest.mark.parametrize("feature", FEATURES)
def test_a_row_says_what_the_code_does(feature):
  assert row(feature) in lines()


def test_every_op_and_implementation_is_told():
  text = README.read_text(encoding="utf-8")
  for name in (*api.implementations(), _dispatch.VARIABLE):
    assert f"`{name}`" in text, name
  for chosen in pallas_kernels.choices("cpu"):
    line = next(x for x in lines() if x.startswith(f"| `{chosen.op}` |"))
    op = importlib.import_module(f"pallas_kernels.{chosen.op}")
    for name in op.implementations():
      plain = name.removesuffix(_dispatch.INTERPRET)
      assert f"`{plain}`" in line or op is pallas_kernels.flash_attention


if __name__ == "__main__":
  print("\n".join([*head(), *map(row, FEATURES)]))
