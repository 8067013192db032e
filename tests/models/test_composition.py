"""Parts of all families compose: they build, run and differentiate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.layers.blocks import blocks
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions
from jaxlm.layers.stacks import stacks
from tests import tiny

SLOTS = (positions, blocks, feedforwards, stacks, norms, embeddings)
ALL = tuple(itertools.product(*(slot.kinds() for slot in SLOTS)))


def covering(designs) -> list:
  """Few designs that together hold every pair of kinds of two slots."""
  pairs = lambda d: set(itertools.combinations(enumerate(d), 2))
  left, chosen = set().union(*map(pairs, designs)), []
  while left:
    chosen.append(max(designs, key=lambda d: len(pairs(d) & left)))
    left -= pairs(chosen[-1])
  return chosen


def spec_of(design) -> dict:
  position, block, feedforward, stack, norm, embedding = design
  example = lambda family, kind: {"kind": kind, **family.entry(kind).example}
  own = lambda family, kind: {
    k: v
    for k, v in example(family, kind).items()
    if k not in ("width", "vocab_size", "heads")
  }
  layer = tiny.layer(
    block=own(blocks, block), feedforward=own(feedforwards, feedforward)
  )
  if "cross" in blocks.fields(block):
    layer["cross"] = dict(kind="cross_attention", heads=tiny.HEADS)
  return tiny.model_spec(
    positions=own(positions, position),
    norm=own(norms, norm),
    layers=dict(layer=layer),
    depth=2 if stack != "sequential" else 1,
    stack=own(stacks, stack),
    embeddings=own(embeddings, embedding),
    input_norm=True,
    final_norm=True,
  )


def loss(model, params, batch):
  hidden = model.apply(params, batch)["hidden"]
  weights = jnp.sin(jnp.arange(hidden.size)).reshape(hidden.shape)
  return jnp.sum(hidden * weights * (batch["segments"] > 0)[..., None])


def gradients(model, shapes, batch):
  """Shapes of the loss and its gradients; nothing runs."""
  run = jax.value_and_grad(lambda params: loss(model, params, batch))
  return jax.eval_shape(run, shapes)


@pytest.mark.slow
def test_every_combination_builds_and_differentiates():
  batch = tiny.batch() | tiny.memory()
  for design in ALL:
    model, params = tiny.build(spec_of(design))
    value, gradient = gradients(model, params, batch)
    assert value.shape == (), design
    assert jax.tree.structure(gradient) == jax.tree.structure(params), design


@pytest.mark.parametrize("design", covering(ALL), ids="-".join)
def test_every_pair_of_parts_runs_and_differentiates(design):
  """Gradients of single parts run in tests/contracts."""
  batch = tiny.batch() | tiny.memory()
  model, params = tiny.build(spec_of(design))
  value, gradient = gradients(model, params, batch)
  assert jax.tree.structure(gradient) == jax.tree.structure(params)
  value = jax.jit(lambda params: loss(model, params, batch))(params)
  assert np.isfinite(float(value)) and abs(float(value)) > 1e-3
