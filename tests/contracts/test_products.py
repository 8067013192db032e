"""Any part works with any other, or is refused with the reason."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import loading, paths
from jaxlm.errors import UserError
from jaxlm.models import assembly
from tests import tiny
from tests.contracts import products

LEGAL = products.legal()
FEW = products.once(LEGAL)
RUN = FEW[::5]


def loss(model, variables, batch):
  outputs = model.apply(variables, batch)
  real = (batch["segments"] > 0)[..., None]
  logits = jax.nn.log_softmax(outputs["masked_lm"])
  return jnp.sum(jnp.sin(outputs["hidden"]) * real) - jnp.mean(logits[..., 0])


def test_every_legal_pair_is_in_a_model():
  covered = set().union(*(products.pairs(kinds) for kinds in LEGAL))
  kinds = {slot: set(r.kinds()) for slot, r in products.SLOTS.items()}
  for slot, wanted in kinds.items():
    here = {kind for pair in covered for s, kind in pair if s == slot}
    assert here == wanted, slot


def some(always):
  """All models, slow but for these."""
  mark = lambda kinds: () if kinds in always else pytest.mark.slow
  return [pytest.param(kinds, marks=mark(kinds)) for kinds in LEGAL]


@pytest.mark.parametrize("kinds", some(FEW), ids="-".join)
def test_it_builds_and_has_gradients_of_every_parameter(kinds):
  """By shapes alone, which costs no compilation."""
  spec = products.spec(kinds)
  # What a workdir keeps is JSON, and must build the same model.
  again = assembly.build(loading.tuples(json.loads(json.dumps(spec))))
  model, batch = assembly.build(spec), products.batch()
  shapes = tiny.shapes(model, batch)
  assert shapes == tiny.shapes(again, batch)
  variables = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
    jax.eval_shape(lambda: tiny.fill(shapes)),
  )
  gradients = jax.eval_shape(
    jax.grad(lambda v: loss(model, v, batch)), variables
  )
  assert paths.flatten(gradients).keys() == paths.flatten(variables).keys()


@pytest.mark.parametrize("kinds", some(RUN), ids="-".join)
def test_it_runs_and_learns_from_every_parameter(kinds):
  model, batch = assembly.build(products.spec(kinds)), products.batch()
  # Narrower than elsewhere: without norms, layers multiply.
  variables = tiny.fill(tiny.shapes(model, batch), scale=0.1)
  run = jax.jit(jax.value_and_grad(lambda v: loss(model, v, batch)))
  value, gradients = run(variables)
  assert np.isfinite(value)
  for path, gradient in paths.flatten(gradients["params"]).items():
    assert np.isfinite(gradient).all(), path
    assert np.abs(gradient).max() > 0 or path.endswith("key/bias"), path


@pytest.mark.parametrize("kinds", products.illegal(), ids="-".join)
def test_what_cannot_go_together_is_refused(kinds):
  with pytest.raises(UserError, match=products.refusal(kinds)):
    assembly.build(products.spec(kinds))
