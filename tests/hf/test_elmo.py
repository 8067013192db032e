"""ELMo's memory against torch.nn.LSTM with projections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jaxlm.layers.mixers import mixers  # noqa: E402
from tests import tiny  # noqa: E402

pytestmark = pytest.mark.hf
FEATURES, WIDTH, CELLS = 7, 5, 6


def test_projected_states_in_float64():
  """Without clips and norms, which torch has not."""
  generator = torch.Generator().manual_seed(0)
  theirs = torch.nn.LSTM(
    FEATURES, CELLS, proj_size=WIDTH, batch_first=True
  ).double()
  with torch.no_grad():
    for parameter in theirs.parameters():
      parameter.copy_(
        0.3
        * torch.randn(parameter.shape, generator=generator, dtype=torch.double)
      )
  # torch keeps gate after gate, we a cell's gates together.
  mine = lambda rows: np.moveaxis(
    np.reshape(rows.T, (*rows.T.shape[:-1], 4, CELLS)), -2, -1
  ).reshape(*rows.T.shape[:-1], 4 * CELLS)
  held = {k: v.detach().numpy() for k, v in theirs.named_parameters()}
  params = {
    "input": {"kernel": mine(held["weight_ih_l0"])},
    "bias": mine(held["bias_ih_l0"] + held["bias_hh_l0"]),
    "cell": {
      "state": {"kernel": mine(held["weight_hh_l0"])},
      "projection": {"kernel": held["weight_hr_l0"].T},
    },
  }
  x = np.random.default_rng(0).standard_normal((3, 12, FEATURES))
  with torch.no_grad():
    expected = theirs(torch.tensor(x))[0].numpy()
  with jax.enable_x64(True):
    part = mixers.build(
      dict(kind="lstm", cells=CELLS, clip=0.0),
      width=WIDTH,
      dtype=jnp.float64,
      param_dtype=jnp.float64,
    )
    ctx = tiny.context(np.ones((3, 12), np.int32))
    found = jax.jit(part.apply)({"params": params}, x, ctx)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
