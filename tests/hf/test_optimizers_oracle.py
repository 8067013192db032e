"""Optimizers of PyTorch's packages against ours, on trajectories in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("pytorch_optimizer")

from jaxlm.optimizers import _quantised, optimizers  # noqa: E402

pytestmark = pytest.mark.hf
STEPS = 12
RATE = 0.0625  # exact in float32, in which schedules are read
# Inputs, outputs. A square: of a longer side any basis completes SOAP's.
SHAPE = (7, 7)
CURVATURE = np.linspace(0.5, 4.0, 49).reshape(SHAPE)
TARGET = np.random.default_rng(1).normal(size=SHAPE)


@pytest.fixture(autouse=True)
def wide():
  with jax.enable_x64(True):
    yield


def start():
  return np.random.default_rng(0).normal(size=SHAPE)


def gradient(x, step):
  """Of a quadratic that moves a little, so that no two steps are alike."""
  return CURVATURE * (x - TARGET) + 0.1 * np.sin(step + x)


def ours(spec, path="stack/kernel", grad=gradient):
  tx = optimizers.build(spec)
  params = {path: jnp.asarray(start())}
  state = tx.init(params)
  for step in range(STEPS):
    grad_fn = lambda p, step=step: {path: grad_of(p[path], step, grad)}
    updates, state = tx.update(grad_fn(params), state, params, grad_fn=grad_fn)
    params = optax.apply_updates(params, updates)
  return np.asarray(params[path])


def grad_of(x, step, grad):
  return jnp.asarray(CURVATURE) * (x - TARGET) + (
    0.1 * jnp.sin(step + x) if grad is gradient else 0.0
  )


def torchs(make, grad=gradient, transposed=False, before=1, **given):
  """Their trajectory; a kernel of theirs is ours, transposed."""
  turn = (lambda a: a.T.copy()) if transposed else (lambda a: a)
  p = torch.nn.Parameter(torch.tensor(turn(start())))
  optimizer = make([p])
  for step in range(STEPS):
    x = turn(p.detach().numpy())
    p.grad = torch.tensor(turn(grad(x, step)))
    optimizer.step(**{k: v(x, turn) for k, v in given.items()})
  return turn(p.detach().numpy())


def plain(x, step):
  return CURVATURE * (x - TARGET)


def close(a, b, limit):
  worst = np.abs(a - b).max()
  assert np.abs(a - start()).max() > 0.01  # it moved
  assert worst <= limit, f"largest difference {worst:.3g}, allowed {limit:.3g}"


def test_adamw():
  spec = dict(kind="adamw", learning_rate=RATE, weight_decay=0.1, decay="all")
  make = lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0.1)
  close(ours(spec), torchs(make), 1e-12)


def test_stable_adamw():
  spec = dict(
    kind="stable_adamw",
    learning_rate=RATE,
    b2=0.99,
    eps=1e-8,
    weight_decay=0.0,
    decay="all",
  )
  make = lambda p: theirs.StableAdamW(
    p, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0, eps=1e-8
  )
  # Its decay rates of every step are float32.
  close(ours(spec), torchs(make), 1e-7)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_adahessian(power):
  """Given the exact diagonal, which signs find exactly on a quadratic."""
  spec = dict(
    kind="adahessian",
    learning_rate=RATE,
    eps=1e-4,
    hessian_power=power,
    average="none",
  )
  make = lambda p: theirs.AdaHessian(
    p, lr=RATE, eps=1e-4, hessian_power=power, weight_decay=0.0
  )
  found = torchs(
    make, grad=plain, hessian=lambda x, turn: [torch.tensor(CURVATURE)]
  )
  close(ours(spec, grad=plain), found, 1e-12)


@pytest.mark.parametrize("adaptive, rho", [(False, 0.05), (True, 0.5)])
def test_sam(adaptive, rho):
  spec = dict(
    kind="sam",
    learning_rate=RATE,
    rho=rho,
    adaptive=adaptive,
    base=dict(kind="adamw", weight_decay=0.0),
  )
  p = torch.nn.Parameter(torch.tensor(start()))
  optimizer = theirs.SAM(
    [p], torch.optim.AdamW, rho=rho, adaptive=adaptive, lr=RATE, weight_decay=0
  )
  for step in range(STEPS):
    for move in (optimizer.first_step, optimizer.second_step):
      p.grad = torch.tensor(gradient(p.detach().numpy(), step))
      move()
  close(ours(spec), p.detach().numpy(), 1e-9)


def test_galore_before_its_second_subspace():
  """torch corrects no bias of eps, and its signs are of no account."""
  galore = pytest.importorskip("galore_torch")
  spec = dict(
    kind="galore", learning_rate=RATE, rank=3, refresh=100, scale=0.5, eps=1e-14
  )
  group = dict(rank=3, update_proj_gap=100, scale=0.5, proj_type="std")
  make = lambda p: galore.GaLoreAdamW(
    [dict(params=p, **group)], lr=RATE, eps=1e-14, no_deprecation_warning=True
  )
  close(ours(spec), torchs(make, transposed=True), 1e-6)


def test_soap():
  """Their count of updates begins at 2, so means are left uncorrected."""
  spec = dict(
    kind="soap",
    learning_rate=RATE,
    weight_decay=0.0,
    refresh=1,
    bias_correction=False,
  )
  make = lambda p: theirs.SOAP(
    p, lr=RATE, weight_decay=0.0, precondition_frequency=1, correct_bias=False
  )
  # Their QR decomposition is in float32.
  close(ours(spec), torchs(make), 2e-4)


@pytest.mark.parametrize("unsigned", [False, True])
def test_codebooks_of_bitsandbytes(unsigned):
  """To the last bit but one: theirs is made in float32."""
  functional = pytest.importorskip("bitsandbytes").functional
  book = functional.create_dynamic_map(signed=not unsigned)
  np.testing.assert_allclose(
    _quantised.codebook(unsigned), np.sort(np.asarray(book)), rtol=1.5e-7
  )


def test_codes_are_at_least_as_near_as_those_of_bitsandbytes():
  functional = pytest.importorskip("bitsandbytes").functional
  x = np.random.default_rng(2).normal(size=(4, 512)).astype(np.float32)
  book = torch.tensor(_quantised.codebook(False))
  codes, state = functional.quantize_blockwise(
    torch.tensor(x), code=book, blocksize=256
  )
  codes = codes.numpy().reshape(x.shape)
  found, scales = _quantised.encode(jnp.asarray(x, jnp.float32), False)
  np.testing.assert_array_equal(
    np.asarray(scales).ravel(), state.absmax.numpy().ravel()
  )
  values = _quantised.codebook(False).astype(np.float64)
  wide = np.repeat(np.asarray(scales, np.float64), 256, axis=-1)
  off = lambda codes: np.abs(values[np.asarray(codes)] * wide - x)
  assert (off(found) <= off(codes) + 1e-7).all()
  assert (np.asarray(found) == codes).mean() > 0.99
