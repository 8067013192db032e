"""An invertible map of sentence vectors to a Gaussian (BERT-flow).

Li et al., "On the Sentence Embeddings from Pre-trained Language Models",
2020, arXiv:2011.05864: a flow that is fitted by likelihood on the vectors of
the sentences to compare. Theirs is Glow; this is a small one of its kind, each
step an affine per-feature map, a fixed rotation in place of the learned 1x1
convolution, and an affine coupling (Dinh et al., arXiv:1605.08803).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

_LOG_2PI = float(np.log(2 * np.pi))


class Flow(NamedTuple):
  """z = f(x).

  Attributes:
    mean: float32 [d], of what was fitted.
    scale: float32 [d], its standard deviations.
    rotations: float32 [steps, d, d].
    params: of the steps, stacked.
    losses: nats a vector of every update, NaN of none.
  """

  mean: np.ndarray
  scale: np.ndarray
  rotations: np.ndarray
  params: dict[str, Any]
  losses: np.ndarray

  def __call__(self, x) -> np.ndarray:
    """x [n, d] as z [n, d], float32."""
    x = (np.asarray(x, np.float32) - self.mean) / self.scale
    return np.asarray(forward(self.params, self.rotations, x)[0])

  def inverse(self, z) -> np.ndarray:
    """z [n, d] as x [n, d], float32."""
    x = backward(self.params, self.rotations, np.asarray(z, np.float32))
    return np.asarray(x) * self.scale + self.mean


def fit(
  x,
  *,
  steps: int = 4,
  hidden: int = 128,
  updates: int = 400,
  rows: int = 256,
  rate: float = 1e-3,
  seed: int = 0,
) -> Flow:
  """Maximises the likelihood of vectors [n, d] under a standard Gaussian.

  Args:
    x: the vectors.
    steps: couplings, one behind the other.
    hidden: width of what computes them.
    updates: of Adam.
    rows: vectors of an update, drawn with replacement.
    rate: learning rate.
    seed: of rotations, weights and draws.
  """
  x = np.asarray(x, np.float32)
  mean, scale = x.mean(axis=0), x.std(axis=0)
  scale = np.where(scale == 0, 1.0, scale).astype(np.float32)
  rng = np.random.default_rng(seed)
  width = x.shape[1]
  rotations = np.stack(
    [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(steps)]
  ).astype(np.float32)
  params = initial(rng, steps, width, hidden)
  tx = optax.adam(rate)
  run = functools.partial(_updates, tx, min(rows, len(x)), updates)
  params, losses = jax.jit(run)(
    params, rotations, (x - mean) / scale, jax.random.key(seed)
  )
  return Flow(mean, scale, rotations, params, np.asarray(losses))


def _updates(tx, rows, updates, params, rotations, x, key):
  def step(carry, key):
    params, state = carry
    some = x[jax.random.randint(key, (rows,), 0, len(x))]
    loss, grads = jax.value_and_grad(mean_nll)(params, rotations, some)
    changes, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, changes), state), loss

  keys = jax.random.split(key, updates)
  (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), keys)
  return params, losses


def initial(rng, steps: int, width: int, hidden: int) -> dict[str, np.ndarray]:
  """Parameters of the identity but for rotations."""
  kept = width - width // 2  # features that a coupling reads
  draw = rng.standard_normal((steps, kept, hidden)) / np.sqrt(kept)
  zeros = lambda *shape: np.zeros((steps, *shape), np.float32)
  return {
    "log_scale": zeros(width),
    "bias": zeros(width),
    "input": draw.astype(np.float32),
    "input_bias": zeros(hidden),
    "output": zeros(hidden, 2 * (width // 2)),
    "output_bias": zeros(2 * (width // 2)),
  }


def forward(params, rotations, x):
  """(z, log |det dz/dx|), [n, d] and [n]."""
  return jax.vmap(lambda row: _forward(params, rotations, row))(x)


def backward(params, rotations, z):
  """The x that `forward` maps to z, [n, d]."""
  return jax.vmap(lambda row: _backward(params, rotations, row))(z)


def _forward(params, rotations, x):
  def step(x, layer):
    p, rotation = layer
    x = (x + p["bias"]) * jnp.exp(p["log_scale"]) @ rotation
    read, moved = _halves(x)
    log_scale, shift = _coupling(p, read)
    x = jnp.concatenate([read, moved * jnp.exp(log_scale) + shift])
    return x, jnp.sum(p["log_scale"]) + jnp.sum(log_scale)

  z, determinants = jax.lax.scan(step, x, (params, rotations))
  return z, jnp.sum(determinants)


def _backward(params, rotations, z):
  def step(x, layer):
    p, rotation = layer
    read, moved = _halves(x)
    log_scale, shift = _coupling(p, read)
    x = jnp.concatenate([read, (moved - shift) * jnp.exp(-log_scale)])
    return x @ rotation.T * jnp.exp(-p["log_scale"]) - p["bias"], None

  return jax.lax.scan(step, z, (params, rotations), reverse=True)[0]


def _halves(x):
  """What a coupling reads, and what it moves."""
  return jnp.split(x, [len(x) - len(x) // 2])


def _coupling(p, read):
  h = jax.nn.relu(read @ p["input"] + p["input_bias"])
  log_scale, shift = jnp.split(h @ p["output"] + p["output_bias"], 2, axis=-1)
  return jnp.tanh(log_scale), shift  # bounded, so that no step explodes


def mean_nll(params, rotations, x):
  """Mean nats of vectors [n, d] under the flow."""
  z, determinant = forward(params, rotations, x)
  energy = 0.5 * jnp.sum(z * z + _LOG_2PI, axis=-1)
  return jnp.mean(energy - determinant)
