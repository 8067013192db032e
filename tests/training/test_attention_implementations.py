"""A model trains alike whatever computes its attention."""

import functools

import jax
import numpy as np
import optax
import pytest

from jaxlm import errors, sharding
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.training import state as states
from jaxlm.training.step import make_train_step
from tests import tiny
from tests.tiny import quick_compilation as quick_compilation

ROWS, LENGTH, STEPS = 4, 72, 3
KERNELS = ("triton:interpret", "mosaic_tpu:interpret")


def segments(rows=ROWS) -> np.ndarray:
  """Documents of many lengths, packed, some padding; one row is all padding."""
  rng = np.random.default_rng(1)
  found = np.cumsum(rng.random((rows, LENGTH)) < 0.06, axis=1) + 1
  found[:, LENGTH - 9 :] = 0
  found[1] = 0
  return found.astype(np.int32)


def batch(seed, rows=ROWS) -> dict:
  found = tiny.batch(segments(rows), seed)
  rng = np.random.default_rng(seed)
  shape = found["inputs"].shape
  weights = found["segments"] > 0
  return {
    "inputs": found["inputs"],
    "segments": found["segments"],
    "positions": found["positions"],
    "targets": rng.integers(1, tiny.VOCAB, shape).astype(np.int32),
    "weights": weights.astype(np.float32),
  }


def spec(mixer, **changes) -> dict:
  layer = tiny.layer(
    block=dict(kind="pre_norm"), mixer=dict(dropout=0.2) | mixer
  )
  return tiny.model_spec(
    layers=dict(layer=layer),
    **dict(heads=dict(causal_lm=dict(kind="causal_lm"))) | changes,
  )


# Every position and bias that a config can ask for, two to a model at most.
MODELS = {
  "alibi-window": spec(dict(window=24), positions=dict(kind="alibi")),
  "buckets-shared-heads": spec(
    dict(key_heads=2),
    positions=dict(kind="relative_buckets", buckets=8, max_distance=20),
    stack=dict(kind="scan", remat=True),
  ),
  "rotary-causal": spec(
    dict(causal=True, window=40, positions=dict(kind="rotary")),
    kind="decoder",
    positions=dict(kind="none"),
  ),
  "convbert": spec(
    dict(kind="mixed_attention", heads=2, kernel_size=5),
    positions=dict(kind="learned", max_length=LENGTH),
  ),
}


@functools.cache
def losses(name, implementation, mesh=None, rows=ROWS) -> list[float]:
  """Losses of the first steps, dropout and all."""
  model_spec = MODELS[name]
  mixer = model_spec["layers"]["layer"]["mixer"]
  mixed = mixer["kind"] == "mixed_attention"
  field = "convolution_implementation" if mixed else "implementation"
  layer = model_spec["layers"]["layer"] | {
    "mixer": mixer | {field: implementation}
  }
  model = assembly.build(model_spec | {"layers": {"layer": layer}})
  mesh = sharding.make_mesh(
    *(mesh or (1, 1, 1)), devices=jax.devices()[: np.prod(mesh or 1)]
  )
  shapes = {
    key: jax.ShapeDtypeStruct(value.shape, value.dtype)
    for key, value in batch(0, rows).items()
  }
  tx = optax.adam(3e-3)
  boxed = tiny.shapes(model, batch(0, rows))
  state = states.create(
    model,
    tx,
    shapes,
    seed=0,
    mesh=mesh,
    params=jax.tree.map(np.asarray, tiny.fill(boxed)["params"]),
  )
  step = make_train_step(
    model,
    objectives.build(dict(kind="causal_lm")),
    tx,
    schedule=lambda step: 3e-3 + 0.0 * step,
    mesh=mesh,
    state=state,
  )
  found = []
  for number in range(STEPS):
    placed = sharding.shard_batch(batch(number, rows), mesh)
    state, metrics = step(state, placed)
    assert metrics["finite"]
    found.append(float(metrics["loss"]))
  return found


@pytest.mark.parametrize(
  "implementation",
  [*KERNELS, pytest.param("chunked", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
  "name",
  [
    "alibi-window",
    # Over a mesh below.
    pytest.param("buckets-shared-heads", marks=pytest.mark.slow),
    pytest.param("rotary-causal", marks=pytest.mark.slow),
  ],
)
def test_losses_do_not_depend_on_the_implementation(name, implementation):
  expected = losses(name, "reference")
  assert expected[0] - expected[-1] > 0.01 * expected[0]  # it learns
  np.testing.assert_allclose(losses(name, implementation), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  "implementation",
  [pytest.param(KERNELS[0], marks=pytest.mark.slow), KERNELS[1]],
)
def test_losses_do_not_depend_on_what_convolves(implementation):
  """ConvBERT's dynamic convolution by its kernels and by XLA."""
  expected = losses("convbert", "reference")
  assert expected[0] - expected[-1] > 0.01 * expected[0]
  found = losses("convbert", implementation)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_convolutions_do_not_depend_on_the_mesh():
  expected = losses("convbert", "reference")
  found = losses("convbert", "triton:interpret", mesh=(2, 2, 2))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  "implementation",
  ["triton:interpret", pytest.param(KERNELS[1], marks=pytest.mark.slow)],
)
def test_losses_do_not_depend_on_the_mesh(implementation):
  """Kernels in a sharded step: rows over data and fsdp, heads over tensor."""
  name = "buckets-shared-heads"
  expected = losses(name, "reference")
  found = losses(name, implementation, mesh=(2, 2, 2))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def build(implementation):
  mixer = dict(heads=tiny.HEADS, implementation=implementation)
  return assembly.build(
    tiny.model_spec(
      layers=dict(layer=tiny.layer(mixer=dict(kind="attention") | mixer)),
      heads=dict(causal_lm=dict(kind="causal_lm")),
    )
  )


def test_a_wrong_name_is_the_users():
  with pytest.raises(errors.UserError, match="did you mean 'triton'") as found:
    tiny.shapes(build("trition"), tiny.batch())
  assert str(found.value).startswith("mixer.implementation")


def test_a_kernel_that_cannot_run_here_is_the_users():
  model = build("triton")
  params = tiny.fill(tiny.shapes(model, tiny.batch()))  # needs no GPU
  with pytest.raises(errors.UserError, match="needs a gpu, .* for cpu"):
    model.apply(params, tiny.batch(), train=False)


def test_what_kernels_have_no_part_in_runs_nevertheless():
  """Probabilities that are asked for come from XLA."""
  found = {}
  for name in (None, "triton:interpret"):
    model = build(name)
    params = tiny.fill(tiny.shapes(model, tiny.batch()))
    _, kept = model.apply(
      params,
      tiny.batch(),
      train=False,
      capture=frozenset({"attention_probabilities"}),
      mutable="intermediates",
    )
    found[name] = jax.tree.leaves(kept)
  assert len(found[None]) == 1
  np.testing.assert_array_equal(found[None][0], found["triton:interpret"][0])
