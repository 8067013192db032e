"""Kernels under a mesh give what they give on one device, and no more talk."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from pallas_kernels import dropout
from pallas_kernels.flash_attention import bias as biases
from pallas_kernels.flash_attention import flash_attention, sharded
from pallas_kernels.flash_attention.differentiable import differentiable
from pallas_kernels.flash_attention.operands import Operands, Static

B, L, H, D, R = 8, 12, 8, 4, 5
MESHES = {
  "data": (8, 1, 1),
  "all": (2, 2, 2),
  "tensor": (1, 1, 8),
  "fsdp-tensor": (1, 2, 4),
}
# By heads of keys, what the default tests run.
ALWAYS = {8: ("all",), 2: ("all", "tensor")}
STATIC = Static(window=(7, 5), scale=0.5, soft_cap=9.0, dropout_rate=0.3)


def mesh_of(shape) -> Mesh:
  devices = np.array(jax.devices()[: np.prod(shape)])
  return Mesh(devices.reshape(shape), ("data", "fsdp", "tensor"))


def operands(key_heads=H, **absent) -> Operands:
  """All there is, small."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  starts = rng.integers(0, 2, (B, L))
  segments = np.cumsum(starts, 1) * (np.arange(L) < L - 2)
  segments = jnp.asarray(segments, jnp.int32)
  first = jnp.asarray(starts, jnp.int32)
  buckets = jnp.asarray(rng.integers(0, R, 2 * L - 1), jnp.int32)
  row_hash, column_seed = dropout.row_hash(jax.random.key(3), (B, H, L))
  whole = Operands(
    query=draw(B, L, H, D),
    key=draw(B, L, key_heads, D),
    value=draw(B, L, key_heads, D + 1),
    query_segments=segments,
    key_segments=segments,
    slopes=draw(H),
    toeplitz=draw(H, 2 * L - 1),
    theta=draw(2, H),
    query_first=first,
    key_first=first,
    dense=draw(1, H, L, L),
    c2p=draw(B, L, H, R),
    p2c=draw(B, L, H, R),
    c2p_buckets=buckets,
    p2c_buckets=buckets[::-1],
    row_hash=row_hash,
    column_seed=column_seed[None],
  )
  return dataclasses.replace(whole, **absent)


def formula(static, x: Operands):
  """The formula of `operands.py`, and each row's lse; slow and plain."""
  count = x.query.shape[2] // x.key.shape[2]
  key, value = (jnp.repeat(a, count, axis=2) for a in (x.key, x.value))
  i, j = jnp.arange(L)[:, None], jnp.arange(L)[None, :]
  place = j - i + L - 1
  bias = jnp.zeros((1, 1, 1, 1))
  if x.toeplitz is not None:
    bias = bias + x.toeplitz[:, place][None]
  if x.slopes is not None:
    bias = bias - (x.slopes[:, None, None] * jnp.abs(j - i)[None])[None]
  if x.theta is not None:
    at_key = (x.key_first > 0)[:, None, None, :]
    at_query = (x.query_first > 0)[:, None, :, None]
    bias = jnp.where(at_key, x.theta[1][None, :, None, None], bias)
    bias = jnp.where(at_query, x.theta[0][None, :, None, None], bias)
  score = static.scale * jnp.einsum("bihd,bjhd->bhij", x.query, key) + bias
  if x.dense is not None:
    score = score + x.dense
  if x.c2p is not None:
    table, rows = jnp.moveaxis(x.c2p, 1, 2), x.c2p_buckets[place][None, None]
    rows = jnp.broadcast_to(rows, score.shape)
    score = score + jnp.take_along_axis(table, rows, axis=3)
  if x.p2c is not None:
    table = jnp.transpose(x.p2c, (0, 2, 3, 1))  # [batch, heads, buckets, keys]
    rows = jnp.broadcast_to(x.p2c_buckets[place][None, None], score.shape)
    score = score + jnp.take_along_axis(table, rows, axis=2)
  score = static.soft_cap * jnp.tanh(score / static.soft_cap)
  before, after = static.window
  seen = ((j - i >= -before) & (j - i <= after))[None, None]
  if x.query_segments is not None:
    same = x.query_segments[:, :, None] == x.key_segments[:, None, :]
    seen = seen & (same & (x.key_segments > 0)[:, None, :])[:, None]
  top = jnp.where(seen, score, -1e30)
  lse = jax.nn.logsumexp(top, axis=-1)
  kept = jnp.where(seen, jnp.exp(top - lse[..., None]), 0.0)
  if static.dropout_rate:
    column = jnp.arange(L, dtype=jnp.uint32)[None, None, None]
    seed = x.column_seed[None, None, None]
    bits = dropout.mix(x.row_hash[..., None] ^ (column + seed))
    below = np.uint32(dropout.keep_below(static.dropout_rate))
    kept = jnp.where(bits < below, kept, 0.0) / (1.0 - static.dropout_rate)
  return jnp.einsum("bhij,bjhd->bihd", kept, value), lse


def floating(x: Operands) -> dict:
  named = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
  return {
    name: value
    for name, value in named.items()
    if value is not None and jnp.issubdtype(value.dtype, jnp.floating)
  }


def backward(static, x, out, lse, grad_out):
  del out, lse
  run = lambda some: formula(static, dataclasses.replace(x, **some))[0]
  return jax.vjp(run, floating(x))[1](grad_out)[0]


# A stand-in for a kernel: the same frame, computed by XLA.
stand_in = differentiable(formula, backward)


def place(mesh, x: Operands) -> Operands:
  """Operands where a train step has them."""
  rows, heads = sharded.split_axes(mesh)
  specs = sharded.specs(x, rows, heads)
  if x.key.shape[2] % mesh.shape["tensor"]:
    specs = dataclasses.replace(specs, key=P(rows), value=P(rows))
  return jax.tree.map(
    lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec)), x, specs
  )


def loss(run, static, x, some):
  out = run(static, dataclasses.replace(x, **some))
  return jnp.sum(jnp.sin(out) * jnp.arange(1.0, D + 2)[None, None, None])


@functools.cache
def expected(key_heads):
  x = operands(key_heads)
  grad = jax.jit(jax.grad(functools.partial(loss, stand_in, STATIC, x)))
  return jax.jit(stand_in, static_argnums=0)(STATIC, x), grad(floating(x))


def through(static, x):
  return sharded.attend(stand_in, static, x)


@pytest.mark.parametrize(
  "name, key_heads",
  # All axes at once, with heads that are shared and that do not divide.
  [
    pytest.param(
      name, heads, marks=() if name in ALWAYS[heads] else pytest.mark.slow
    )
    for name in MESHES
    for heads in (H, 2)
  ],
)
def test_sharded_is_unsharded(name, key_heads):
  out, grads = expected(key_heads)
  mesh = mesh_of(MESHES[name])
  x = place(mesh, operands(key_heads))
  found = jax.jit(through, static_argnums=0)(STATIC, x)
  np.testing.assert_allclose(found, out, rtol=1e-5, atol=1e-6)
  grad = jax.jit(jax.grad(functools.partial(loss, through, STATIC, x)))
  found = grad(floating(x))
  assert set(found) == set(grads)
  for field, value in grads.items():
    assert np.abs(value).max() > 1e-4, field
    np.testing.assert_allclose(
      found[field], value, rtol=1e-5, atol=2e-5, err_msg=field
    )


COLLECTIVE = re.compile(
  r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)\("
)


def collectives(function, *arguments) -> list[str]:
  text = jax.jit(function).lower(*arguments).compile().as_text()
  return COLLECTIVE.findall(text)


def test_no_collective_forward():
  x = place(mesh_of((2, 2, 2)), operands())
  assert collectives(lambda x: through(STATIC, x), x) == []


@pytest.mark.parametrize("shared", ["dense", "toeplitz"])
def test_one_sum_over_devices_for_what_rows_share(shared):
  absent = ["slopes", "theta", "query_first", "key_first", "dense", "toeplitz"]
  absent.remove(shared)
  x = place(mesh_of((2, 2, 2)), operands(**dict.fromkeys(absent)))

  def grad(x):
    return jax.grad(functools.partial(loss, through, STATIC, x))(floating(x))

  assert collectives(lambda x: grad(x)[shared], x) == ["all-reduce"]
  rest = lambda x: {k: v for k, v in grad(x).items() if k != shared}
  assert collectives(rest, x) == []


def test_recomputed_layers_in_a_loop():
  """As in a train step: scan over layers, each recomputed, one bias."""

  def total(run, x, dense):
    def layer(query, _):
      y = dataclasses.replace(x, query=query, dense=dense)
      return run(STATIC, y)[..., :D], None

    layer = jax.checkpoint(layer)
    return jnp.sum(jax.lax.scan(layer, x.query, None, length=2)[0] ** 2)

  x = operands()
  wanted = jax.jit(jax.grad(total, argnums=2), static_argnums=0)
  mesh = mesh_of((2, 2, 2))
  y = place(mesh, x)
  np.testing.assert_allclose(
    wanted(through, y, y.dense), wanted(stand_in, x, x.dense), atol=1e-5
  )


def test_an_ambient_mesh_does():
  """Operands that live nowhere yet, under `jax.set_mesh`."""
  x = operands()
  for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
    mesh = Mesh(
      mesh_of((2, 2, 2)).devices, ("data", "fsdp", "tensor"), (kind,) * 3
    )
    with jax.set_mesh(mesh):
      out = jax.jit(lambda x: through(STATIC, x))(x)
    wanted = NamedSharding(mesh, P(("data", "fsdp"), None, "tensor"))
    assert out.sharding.is_equivalent_to(wanted, 4)
    np.testing.assert_allclose(out, expected(H)[0], rtol=1e-5, atol=1e-6)


def test_inside_of_a_shard_map_a_kernel_is_called_as_it_is():
  mesh = mesh_of((4, 1, 2))
  x = place(mesh, operands())
  spec = sharded.specs(x, ("data", "fsdp"), ("tensor",))
  run = jax.shard_map(
    lambda x: through(STATIC, x),
    mesh=mesh,
    in_specs=(spec,),
    out_specs=P(("data", "fsdp"), None, "tensor"),
    check_vma=False,
  )
  np.testing.assert_allclose(
    jax.jit(run)(x), expected(H)[0], rtol=1e-5, atol=1e-6
  )


def test_what_does_not_divide_is_refused():
  x = jax.eval_shape(operands)
  mesh = mesh_of((8, 1, 1))
  with (
    jax.set_mesh(mesh),
    pytest.raises(NotImplementedError, match="6 rows do not divide over data"),
  ):
    through(STATIC, dataclasses.replace(x, query=jnp.zeros((6, L, H, D))))
  with (
    jax.set_mesh(mesh_of((1, 1, 8))),
    pytest.raises(NotImplementedError, match="4 heads .* tensor = 8"),
  ):
    through(STATIC, dataclasses.replace(x, query=jnp.zeros((B, L, 4, D))))


@pytest.mark.parametrize("name", ["reference", "chunked", "triton:interpret"])
def test_the_op_talks_to_nobody(name):
  """Through the op, on arrays of a mesh: the same out, no collective."""
  x = operands(key_heads=2)

  def run(x, slopes, implementation=name):
    return flash_attention(
      x.query,
      x.key,
      x.value,
      bias=biases.Alibi(slopes),
      segments=x.query_segments,
      dropout_rate=0.3,
      dropout_key=jax.random.key(1),
      implementation=implementation,
    )

  expected = jax.jit(lambda x: run(x, x.slopes, "reference"))(x)
  y = place(mesh_of((2, 2, 2)), x)
  compiled = jax.jit(lambda x: run(x, x.slopes)).lower(y).compile()
  assert COLLECTIVE.findall(compiled.as_text()) == []
  np.testing.assert_allclose(compiled(y), expected, rtol=1e-5, atol=1e-6)
