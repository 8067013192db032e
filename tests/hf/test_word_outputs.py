"""Adaptive softmax against torch's, and vMF's normaliser against mpmath."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
mpmath = pytest.importorskip("mpmath")

from jaxlm.layers.embeddings import embeddings  # noqa: E402
from jaxlm.layers.heads import heads  # noqa: E402
from jaxlm.objectives import continuous_vmf  # noqa: E402
from tests import tiny  # noqa: E402

pytestmark = pytest.mark.hf
WIDTH, VOCAB, CUTOFFS = 80, 64, [10, 30, 50]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("divisor", [2.0, 4.0])
def test_adaptive_softmax_in_float64(with_bias, divisor):
  """log p of all words, losses of targets, and gradients by both."""
  torch.manual_seed(0)
  theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(
    WIDTH, VOCAB, CUTOFFS, div_value=divisor, head_bias=with_bias
  ).double()
  rng = np.random.default_rng(0)
  hidden = rng.standard_normal((tiny.BATCH, tiny.LENGTH, WIDTH))
  targets = rng.integers(0, VOCAB, hidden.shape[:2]).astype(np.int32)
  states = torch.tensor(hidden.reshape(-1, WIDTH), requires_grad=True)
  found = theirs(states, torch.tensor(targets.reshape(-1)).long())
  (-found.output.sum()).backward()
  batch = dict(targets=targets, weights=np.ones(targets.shape))
  held = {k: v.detach().numpy() for k, v in theirs.named_parameters()}
  params = {"head_table": held["head.weight"]}
  for i in range(len(CUTOFFS)):
    params[f"tail_{i}_kernel"] = held[f"tail.{i}.0.weight"].T
    params[f"tail_{i}_table"] = held[f"tail.{i}.1.weight"]
  if with_bias:  # of the head alone; ours has those of tails, too
    params["head_bias"] = held["head.bias"]
    for i, (a, b) in enumerate(zip(CUTOFFS, [*CUTOFFS[1:], VOCAB])):
      params[f"tail_{i}_bias"] = np.zeros(b - a)
  with jax.enable_x64(True):
    head = heads.build(
      dict(
        kind="adaptive_softmax",
        cutoffs=CUTOFFS,
        divisor=divisor,
        output_bias=with_bias,
      ),
      dtype=jnp.float64,
      param_dtype=jnp.float64,
    )
    table = embeddings.build({"kind": "token"}, vocab_size=VOCAB, width=WIDTH)
    params = jax.tree.map(jnp.asarray, params)

    def run(params, hidden, train):
      ctx = tiny.context(train=train)
      return head.apply({"params": params}, hidden, batch, table, ctx)

    def loss(params, hidden):
      return jnp.sum(run(params, hidden, True).nats)

    whole = run(params, jnp.asarray(hidden), False)
    nats = run(params, jnp.asarray(hidden), True).nats
    of_params, of_hidden = jax.grad(loss, (0, 1))(params, jnp.asarray(hidden))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
  with torch.no_grad():
    close(whole.reshape(-1, VOCAB), theirs.log_prob(states).numpy())
  close(nats.reshape(-1), -found.output.detach().numpy())
  close(of_hidden.reshape(-1, WIDTH), states.grad.numpy())
  close(of_params["head_table"], theirs.head.weight.grad.numpy())
  for i, tail in enumerate(theirs.tail):
    close(of_params[f"tail_{i}_kernel"].T, tail[0].weight.grad.numpy())
    close(of_params[f"tail_{i}_table"], tail[1].weight.grad.numpy())


@pytest.mark.parametrize("width", [20, 50, 100, 300, 768])
def test_normaliser_of_the_sphere(width):
  """log C and its slope with 40 digits, from 0.01 to 1000."""
  mpmath.mp.dps = 40
  order = mpmath.mpf(width) / 2 - 1
  for kappa in (0.01, 0.1, 1, 10, 50, 100, 300, 1000):
    bessel = lambda v, kappa=kappa: mpmath.besseli(v, mpmath.mpf(kappa))
    log_c = order * mpmath.log(kappa) - mpmath.log(bessel(order))
    log_c -= mpmath.mpf(width) / 2 * mpmath.log(2 * mpmath.pi)
    ratio = bessel(order + 1) / bessel(order)
    of = lambda k: continuous_vmf.log_normalizer(k * k, width)
    # In float32 the rounding of the largest term, v log v, is what is left.
    size = float(order * mpmath.log(order) + abs(log_c))
    single = float(of(jnp.float32(kappa)))
    assert abs(single - float(log_c)) < 3e-7 * size + 1e-6
    slope = -float(jax.grad(of)(jnp.float32(kappa)))
    assert slope == pytest.approx(
      float(ratio), rel=3e-6 if width > 49 else 1e-4
    )
    if width >= 100:
      with jax.enable_x64(True):
        wide = float(of(jnp.float64(kappa)))
      assert abs(wide - float(log_c)) < 5e-9
