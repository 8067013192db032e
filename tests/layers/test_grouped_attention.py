"""SqueezeBERT's attention: grouped maps of queries, keys and values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxlm import errors, paths
from jaxlm.layers.mixers import mixers
from tests import tiny
from tests.test_recipes import shapes


def part(kind, **fields):
  spec = dict(kind=kind, heads=tiny.HEADS, **fields)
  return mixers.build(spec, width=tiny.WIDTH)


@pytest.mark.parametrize("groups, output", [(4, 1), (2, 2), (1, 4)])
def test_it_is_attention_with_block_diagonal_maps(groups, output):
  x = np.random.default_rng(0).standard_normal((2, 16, 32)).astype(np.float32)
  module = part("grouped_attention", groups=groups, output_groups=output)
  ctx = tiny.context()
  params = tiny.fill(tiny.shapes(module, jnp.asarray(x), ctx))["params"]
  whole = {
    name: {
      "kernel": jnp.asarray(
        scipy.linalg.block_diag(*np.asarray(leaf["kernel"]))
      )
      if leaf["kernel"].ndim == 3
      else leaf["kernel"],
      "bias": leaf["bias"],
    }
    for name, leaf in params.items()
  }
  found = jax.jit(module.apply)({"params": params}, x, ctx)
  expected = jax.jit(part("attention").apply)({"params": whole}, x, ctx)
  np.testing.assert_allclose(tiny.real(found), tiny.real(expected), atol=1e-5)


def test_groups_that_do_not_divide_are_refused():
  module = part("grouped_attention", groups=5)
  with pytest.raises(errors.UserError, match="groups=5 do not divide 32"):
    tiny.shapes(module, jnp.zeros((2, 16, 32)), tiny.context())


def test_squeezebert_has_the_published_parameters():
  found = shapes("squeezebert", "base")
  body = {k: v for k, v in found.items() if not k.startswith("heads_")}
  pooler = 768 * 768 + 768  # which transformers counts
  assert paths.count(body) + pooler == 51_089_664
