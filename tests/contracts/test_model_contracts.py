"""What every shipped model promises, at its tiny size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths, sharding
from jaxlm.layers import primitives
from jaxlm.models import assembly
from jaxlm.training import step
from tests import tiny

ROWS = 4  # over data=2 x fsdp=2
SEGMENTS = np.concatenate([tiny.SEGMENTS, tiny.SEGMENTS[::-1]])
# Where no norm holds them, numbers grow to 1e4 with weights as wide as others'.
# So they do in T5 v1.1, whose gates multiply and whose scores are not scaled:
# as wide, sharded differs by 2e-4 in float32, and by 2e-13 in float64.
DRAWN = {"mobilebert": 0.1, "ul2": 0.15}
every_config = pytest.mark.parametrize("name", tiny.CONFIGS)


# Much that shards in one model: a loop of gated layers, a learned score bias,
# a narrow table, sentence types, two heads.
MIXED = tiny.model_spec(
  positions=dict(kind="relative_buckets"),
  embeddings=dict(kind="factorized", table_width=16, types=2),
  layers=dict(layer=tiny.layer(feedforward=dict(kind="gated", hidden=48))),
  depth=2,
  stack=dict(kind="scan"),
  heads=dict(
    masked_lm=dict(kind="masked_lm"),
    classify=dict(kind="classify", classes=3),
  ),
)


@functools.cache
def boxed(name):
  spec = MIXED if name == "mixed" else tiny.config_model(name)
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  return model, tiny.shapes(model, tiny.batch(SEGMENTS))


def gradients(model, places, params, batch):
  """Hidden states and gradients of a loss over all heads.

  Parameters are whole along `fsdp`, as the train step makes them.
  """

  def loss(params):
    outputs = model.apply({"params": params}, batch)
    hidden = outputs["hidden"]
    weights = (batch["segments"] > 0)[..., None] / hidden.size
    total = jnp.sum(jnp.sin(hidden) * weights)
    for head, logits in sorted(outputs.items()):
      if head != "hidden":
        some = logits[:, :2]
        # Of one logit the softmax is 1 whatever it is.
        squash = jnp.sin if some.shape[-1] == 1 else jax.nn.log_softmax
        total += jnp.mean(squash(some)[..., 0])
    return total, hidden

  params = step.gather(params, places)
  return jax.grad(loss, has_aux=True)(params)


def batch_of(model):
  """Packed rows; of a model that reads some tokens late, these are there."""
  batch = tiny.batch(SEGMENTS)
  if "visible_positions" not in getattr(model, "features", ()):
    return batch
  late = np.zeros(SEGMENTS.shape, bool)
  np.put_along_axis(late, batch["predict_positions"], True, axis=1)
  places = [np.flatnonzero(~row) for row in late]
  return batch | dict(visible_positions=np.array(places, np.int32))


@every_config
def test_names_of_all_axes(name):
  _, shapes = boxed(name)
  flat = paths.flatten(tiny.fill(shapes))
  for path, axes in tiny.names(shapes).items():
    assert axes is not None and len(axes) == flat[path].ndim, path
    assert set(axes) <= {*primitives.AXES, None}, (path, axes)
    assert set(axes) <= {*sharding.RULES, None}, (path, axes)


@pytest.mark.parametrize(
  "name",
  ["mixed", *(pytest.param(n, marks=pytest.mark.slow) for n in tiny.CONFIGS)],
)
def test_sharded_equals_unsharded(name):
  """On 8 devices: 2 copies, parameters in 2, matrices in 2."""
  model, shapes = boxed(name)
  variables = tiny.fill(shapes, scale=DRAWN.get(name, 0.3))["params"]
  batch = batch_of(model)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  places = sharding.state_shardings(shapes, mesh)["params"]
  placed = jax.device_put(variables, places)
  kernels = [
    leaf
    for path, leaf in paths.flatten(placed).items()
    if path.endswith("kernel") and "layers" in path
  ]
  assert all(
    len({str(s.index) for s in k.addressable_shards}) == 4 for k in kernels
  )
  run = jax.jit(functools.partial(gradients, model, places))
  gradient, hidden = run(placed, sharding.shard_batch(batch, mesh))
  plain_run = jax.jit(functools.partial(gradients, model, None))
  expected, plain = plain_run(variables, batch)
  np.testing.assert_allclose(
    tiny.real(hidden, SEGMENTS), tiny.real(plain, SEGMENTS), atol=1e-4
  )
  expected = paths.flatten(expected)
  for path, leaf in paths.flatten(gradient).items():
    np.testing.assert_allclose(
      leaf, expected[path], atol=1e-4, rtol=1e-3, err_msg=path
    )
    assert np.abs(leaf).max() > 0 or path.endswith("key/bias"), path
