"""Optimizers made of others: groups, layer-wise decay, SAM, 8 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm import paths
from jaxlm.errors import UserError
from jaxlm.optimizers import (
  _quantised,
  fsam,
  galore,
  gradnormlorp,
  layer_decay,
  optimizers,
  sam,
)


def build(**spec):
  return optimizers.build({"learning_rate": 0.1, **spec})


def draw(*shape, seed=0):
  rng = np.random.Generator(np.random.Philox(seed))
  return jnp.float32(rng.standard_normal(shape))


def walk(tx, params, grad, count=3):
  state = tx.init(params)
  for _ in range(count):
    updates, state = tx.update(grad(params), state, params, grad_fn=grad)
    params = optax.apply_updates(params, updates)
  return params


def same(a, b, tolerance=0.0):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance
    ),
    a,
    b,
  )


# Groups


def test_groups_are_their_optimizers():
  params = {"low": {"kernel": draw(3, 2)}, "top": {"kernel": draw(3, 2)}}
  grad = lambda p: jax.tree.map(lambda x: 2.0 * x, p)
  tx = build(
    kind="groups",
    groups=dict(
      still=dict(paths="^low/", optimizer=dict(kind="frozen")),
      rest=dict(paths="", rate=0.5, optimizer=dict(kind="adamw")),
    ),
  )
  found = walk(tx, params, grad)
  same(found["low"], params["low"])
  alone = optimizers.build(dict(kind="adamw"), learning_rate=0.05)
  same(found["top"], walk(alone, {"kernel": params["top"]["kernel"]}, grad))


def test_the_order_of_groups_is_of_no_account():
  """A config sorts its keys: 'rest' stands before 'words' there."""
  params = {"table": draw(3, 2), "top": {"kernel": draw(3, 2)}}
  grad = lambda p: jax.tree.map(lambda x: 2.0 * x, p)
  words = dict(paths="table", optimizer=dict(kind="frozen"))
  rest = dict(paths="", optimizer=dict(kind="adamw"))
  first = walk(
    build(kind="groups", groups=dict(words=words, rest=rest)), params, grad
  )
  last = walk(
    build(kind="groups", groups=dict(rest=rest, words=words)), params, grad
  )
  same(first, last)
  same(first["table"], params["table"])
  assert jnp.abs(first["top"]["kernel"] - params["top"]["kernel"]).max() > 0.1


def test_a_group_sees_the_gradient_by_its_own_parameters():
  params = {"a": jnp.float32([1.0, 2.0]), "b": jnp.float32([3.0, 4.0])}
  grad = jax.grad(lambda p: jnp.sum(p["a"] ** 2 * p["b"]))
  groups = dict(
    a=dict(
      paths="^a$",
      optimizer=dict(kind="adahessian", average="none", hessian_power=1.0),
    ),
    b=dict(paths="^b$", optimizer=dict(kind="frozen")),
  )
  found = walk(build(kind="groups", groups=groups), params, grad, 1)
  # d/da = 2 a b, curvature 2 b: a Newton step of rate 0.1.
  np.testing.assert_allclose(found["a"], 0.9 * params["a"], rtol=1e-3)
  same(found["b"], params["b"])


def test_every_parameter_needs_a_group_and_every_group_one():
  params = {"low": draw(2), "top": draw(2)}
  some = dict(low=dict(paths="low", optimizer=dict(kind="frozen")))
  with pytest.raises(UserError, match="No rule covers these parameters: top"):
    build(kind="groups", groups=some).init(params)
  rest = dict(paths="", optimizer=dict(kind="adamw"))
  none = dict(rest=rest, high=dict(some["low"], paths="high"))
  with pytest.raises(UserError, match="groups.high: no parameter is left"):
    build(kind="groups", groups=none).init(params)
  with pytest.raises(UserError, match="nearest.*'paths'|'paths'"):
    build(kind="groups", groups=dict(a=dict(path="", optimizer={})))


# Layer-wise decay


def model(depth, looped=False):
  leaf = draw(2, 2)
  layer = {"mixer": {"kernel": leaf}}
  if looped:  # one layer, then (depth - 1) / 2 turns of a pair
    pair = jax.tree.map(lambda x: jnp.stack([x] * ((depth - 1) // 2)), layer)
    stack = {"layers_0": layer, "loop": {"layers_0": pair, "layers_1": pair}}
  else:
    stack = {f"layers_{i}": layer for i in range(depth)}
  return {
    "embeddings": {"table": leaf},
    "positions": {"table": leaf},
    "stack": stack,
    "final_norm": {"norm": {"scale": draw(2)}},
    "heads_classify": {"output": {"kernel": leaf}},
  }


def test_the_multipliers_of_electra():
  """The sheet's table: 12 layers, 0.8: head 1, top .8^2, embeddings .8^14."""
  powers = paths.flatten(layer_decay.distances(model(12)))
  assert powers["heads_classify/output/kernel"] == 0
  assert powers["final_norm/norm/scale"] == 0
  assert powers["stack/layers_11/mixer/kernel"] == 2
  assert powers["stack/layers_0/mixer/kernel"] == 13
  assert powers["embeddings/table"] == powers["positions/table"] == 14
  plain = paths.flatten(layer_decay.distances(model(12), top_power=1))
  assert plain["stack/layers_11/mixer/kernel"] == 1
  assert plain["embeddings/table"] == 13


def test_scanned_layers_take_their_own_multipliers():
  params = model(5, looped=True)
  powers = paths.flatten(layer_decay.distances(params))
  assert powers["stack/layers_0/mixer/kernel"] == 6
  assert list(powers["stack/loop/layers_0/mixer/kernel"]) == [5, 3]
  assert list(powers["stack/loop/layers_1/mixer/kernel"]) == [4, 2]
  assert powers["embeddings/table"] == 7
  ones = jax.tree.map(jnp.ones_like, params)
  tx = build(kind="layer_decay", factor=0.5, base=dict(kind="adamw"))
  step, _ = tx.update(ones, tx.init(params), params)
  base, _ = build(kind="adamw").update(
    ones, build(kind="adamw").init(params), params
  )
  looped = lambda tree: tree["stack"]["loop"]["layers_0"]["mixer"]["kernel"]
  np.testing.assert_allclose(looped(step)[1], looped(base)[1] / 8, rtol=1e-6)


# SAM


def quadratic(p):
  return {"x": jnp.float32([1.0, 4.0]) * p["x"]}


def test_sam_on_a_quadratic_is_its_closed_form():
  params = {"x": jnp.float32([1.0, 2.0])}
  grad = quadratic(params)["x"]
  tx = build(kind="sam", rho=0.3, base=dict(kind="adamw", weight_decay=0.0))
  seen = []
  spy = lambda p: seen.append(p["x"]) or quadratic(p)
  tx.update(quadratic(params), tx.init(params), params, grad_fn=spy)
  unit = grad / jnp.linalg.norm(grad)
  np.testing.assert_allclose(seen[0], params["x"] + 0.3 * unit, rtol=1e-6)


def test_a_radius_of_zero_is_the_base():
  params = {"x": jnp.float32([1.0, 2.0])}
  base = dict(kind="adamw")
  none = walk(build(kind="sam", rho=0.0, base=base), params, quadratic)
  same(none, walk(build(**base), params, quadratic))


def test_asam_does_not_see_scale():
  """f = (w1 w2 - 1)^2 at (2, .3) and (10, .06): the sheet's numbers."""
  loss = lambda p: (p["w"][0] * p["w"][1] - 1.0) ** 2

  def worst(w, **options):
    params = {"w": jnp.float32(w)}
    step = sam.perturbation(jax.grad(loss)(params), params, 0.1, **options)
    return float(loss({"w": params["w"] + step["w"]}))

  near, far = [2.0, 0.3], [10.0, 0.06]
  assert worst(near, adaptive=True) == pytest.approx(0.2321821341, rel=1e-5)
  assert worst(far, adaptive=True) == pytest.approx(0.2321821341, rel=1e-5)
  assert worst(near) == pytest.approx(0.361, abs=1e-3)
  assert worst(far) == pytest.approx(1.960, abs=1e-3)


def test_plain_steps_lie_between_perturbed_ones():
  params, calls = {"x": jnp.float32([1.0, 2.0])}, []
  grad = lambda p: {"x": 2.0 * p["x"]}
  tx = build(kind="sam", rho=0.5, interval=3, base=dict(kind="adamw", b1=0.0))
  state = tx.init(params)
  count = lambda p: jax.debug.callback(lambda: calls.append(1)) or grad(p)
  for _ in range(7):
    _, state = tx.update(grad(params), state, params, grad_fn=count)
  jax.effects_barrier()
  assert len(calls) == 3


# 8 bits


@pytest.mark.parametrize(
  ("unsigned", "smallest"), [(False, 5.5e-7), (True, 3.25e-7)]
)
def test_codes_are_those_of_the_dynamic_type(unsigned, smallest):
  values = _quantised.codebook(unsigned)
  assert values.shape == (256,) and (np.diff(values) > 0).all()
  assert values[-1] == 1.0 and (values == 0).sum() == 1
  np.testing.assert_allclose(values[values > 0][0], smallest, rtol=1e-5)
  if not unsigned:
    np.testing.assert_allclose(values[0], -0.99297, rtol=1e-5)


def test_a_gaussian_comes_back_within_the_published_error():
  x = draw(64, 512)
  back = _quantised.decode(*_quantised.encode(x, False), False)
  error = jnp.linalg.norm(back - x) / jnp.linalg.norm(x)
  assert 0.009 < error < 0.0115  # 0.0108 in blocks of 256
  # Twice is once, where a block's largest value is positive: -1 has no code.
  x = x.at[:, ::256].set(9.0)
  once = _quantised.encode(x, False)
  again = _quantised.encode(_quantised.decode(*once, False), False)
  same(once, again)


def test_second_moments_never_vanish():
  x = jnp.float32([[1.0] + [1e-9] * 299])
  back = _quantised.decode(*_quantised.encode(x, True), True)
  assert (back > 0).all() and back[0, 0] == 1.0 and back.shape == x.shape
  zero = _quantised.decode(*_quantised.encode(0.0 * x, True), True)
  assert (zero == 0).all()


def test_states_are_a_quarter_and_steps_nearly_the_same():
  params = {"kernel": draw(64, 256), "bias": draw(64)}
  grad = lambda p: jax.tree.map(lambda x: x - 0.3, p)
  base = dict(kind="adamw", eps=1e-6)
  tx = build(kind="eight_bit", base=base, learning_rate=0.01)
  wide = build(**base, learning_rate=0.01)
  nbytes = lambda tx: sum(x.nbytes for x in jax.tree.leaves(tx.init(params)))
  assert nbytes(tx) / nbytes(wide) == pytest.approx(0.255, abs=0.01)
  found, expected = walk(tx, params, grad, 10), walk(wide, params, grad, 10)
  moved = jnp.linalg.norm(expected["kernel"] - params["kernel"])
  off = jnp.linalg.norm(expected["kernel"] - found["kernel"])
  # 0.0108 a rounding, of which the mean over steps keeps 1 / sqrt(1 - b1**2).
  assert off / moved < 0.0108 / (1 - 0.9**2) ** 0.5
  same(found["bias"], expected["bias"])


# GaLore


def test_full_rank_of_the_short_side_loses_nothing():
  plain = optax.identity()
  for shape in ((4, 6), (6, 4), (2, 4, 6)):
    name = "loop/kernel" if len(shape) == 3 else "kernel"
    g = draw(*shape)
    basis = galore.leading(g, 4)
    small = galore.down(g, basis)
    assert min(small.shape[-2:]) == 4
    same(galore.up(small, basis, shape), g, 2e-6)
    eye = jnp.swapaxes(basis, -1, -2) @ basis
    same(eye, jnp.broadcast_to(jnp.eye(4), eye.shape), 2e-6)
    assert not galore.low(name, g, 4) and galore.low(name, g, 3)
  tx = galore.project(plain, 2, 10, 1.0)
  low = {"kernel": draw(6, 2) @ draw(2, 4, seed=1)}
  step, _ = tx.update(low, tx.init(low))
  same(step, low, 3e-6)


def test_galore_is_adam_in_the_subspace():
  """By hand: one step from zero moments is sign-like in the projection."""
  g = {"kernel": draw(3, 5), "bias": draw(5)}
  tx = build(kind="galore", rank=2, scale=0.5, eps=1e-12)
  step, state = tx.update(g, tx.init(g), g)
  basis = galore.leading(g["kernel"], 2)
  expected = -0.1 * 0.5 * basis @ jnp.sign(basis.T @ g["kernel"])
  same(step["kernel"], expected, 1e-5)
  same(step["bias"], -0.1 * jnp.sign(g["bias"]), 1e-5)
  shapes = sorted(x.shape for x in jax.tree.leaves(state) if x.ndim == 2)
  assert shapes == [(2, 5), (2, 5), (3, 2)]


def test_subspaces_change_only_when_due():
  params = {"kernel": draw(4, 6)}
  tx = galore.project(optax.identity(), 2, 3, 1.0)
  state, bases = tx.init(params), []
  for seed in range(4):
    _, state = tx.update({"kernel": draw(4, 6, seed=seed)}, state)
    bases.append(np.asarray(state.bases["kernel"]))
  same(bases[0], bases[1])
  same(bases[0], bases[2])
  assert np.abs(bases[3] - bases[0]).max() > 0.1


# LAMB


def test_lamb_is_that_of_optax_where_everything_adapts():
  params = {"kernel": draw(3, 4), "bias": draw(4)}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  mine = build(kind="lamb", decay="all", adapt="all")
  same(
    walk(mine, params, grad),
    walk(
      optax.with_extra_args_support(optax.lamb(0.1, weight_decay=0.01)),
      params,
      grad,
    ),
    2e-6,
  )


def test_lamb_scales_scanned_layers_one_by_one():
  layer = {"kernel": draw(3, 4)}
  both = {"loop": {"kernel": jnp.stack([layer["kernel"], 5 * layer["kernel"]])}}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  tx = build(kind="lamb")
  found = walk(tx, both, grad, 2)["loop"]["kernel"]
  same(found[0], walk(tx, layer, grad, 2)["kernel"], 1e-6)


# Muon


def test_muon_is_that_of_optax_and_makes_momentum_orthogonal():
  params = {"stack": {"kernel": draw(6, 4)}, "table": draw(5, 4)}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  mine = build(kind="muon", weight_decay=0.0)
  theirs = optax.with_extra_args_support(
    optax.contrib.muon(0.1, consistent_rms=0.2)
  )
  alone = {"kernel": params["stack"]["kernel"]}
  found = walk(mine, params, grad)
  same(found["stack"], walk(theirs, alone, grad), 1e-6)
  adam = walk(build(kind="adamw", weight_decay=0.0), params, grad)
  same(found["table"], adam["table"], 1e-6)
  step, _ = mine.update(params, mine.init(params), params)
  values = jnp.linalg.svd(step["stack"]["kernel"], compute_uv=False)
  # The iteration's five steps leave singular values around 1.
  np.testing.assert_allclose(values / (0.1 * 0.2 * 6**0.5), 1.0, atol=0.35)


def test_muon_treats_scanned_layers_one_by_one():
  layers = [draw(6, 4), 3.0 * draw(6, 4, seed=1)]
  tx = build(kind="muon")
  grad = lambda p: jax.tree.map(jnp.sin, p)
  both = {"stack": {"loop": {"kernel": jnp.stack(layers)}}}
  found = walk(tx, both, grad)["stack"]["loop"]["kernel"]
  for i, layer in enumerate(layers):
    alone = walk(tx, {"stack": {"kernel": layer}}, grad)["stack"]["kernel"]
    same(found[i], alone, 1e-6)


# Sophia


def test_sophia_is_a_clipped_newton_step_where_the_curvature_is_known():
  curvature = jnp.float32([1.0, 4.0])
  tx = build(kind="sophia", gamma=1.0, b1=0.0, b2=0.0, interval=1, clip=2.0)
  params = {"x": jnp.float32([1.0, 2.0])}
  grad = lambda p: {"x": curvature * p["x"]}
  state = tx.init(params)
  # The first curvature comes after the first step, which is a sign.
  step, state = tx.update(grad(params), state, params, grad_fn=grad)
  np.testing.assert_allclose(step["x"], [-0.2, -0.2], rtol=1e-6)
  step, state = tx.update(grad(params), state, params, grad_fn=grad)
  np.testing.assert_allclose(step["x"], [-0.1, -0.2], rtol=1e-6)


# Decay to the start


def test_prior_decay_pulls_matrices_back_to_where_they_began():
  start = {"kernel": draw(3, 4), "bias": draw(4)}
  tx = build(
    kind="prior_decay",
    weight_decay=0.5,
    base=dict(kind="adamw", weight_decay=0),
  )
  state = tx.init(start)
  moved = jax.tree.map(lambda x: x + 1.0, start)
  zero = jax.tree.map(jnp.zeros_like, start)
  step, _ = tx.update(zero, state, moved)
  np.testing.assert_allclose(step["kernel"], -0.1 * 0.5 * 1.0, rtol=1e-6)
  assert (step["bias"] == 0).all()
  step, _ = tx.update(zero, state, start)
  assert (step["kernel"] == 0).all()


# Batch-size warm-up


def test_updates_take_the_mean_of_more_and_more_batches():
  params, base = {"kernel": draw(3, 4)}, dict(kind="adamw", eps=1e-6)
  tx = build(kind="accumulate", base=base, every=[(0, 1), (2, 2), (4, 3)])
  grads = [{"kernel": draw(3, 4, seed=s)} for s in range(7)]
  mean = lambda *g: jax.tree.map(lambda *x: sum(x) / len(x), *g)
  groups = [grads[0], grads[1], mean(*grads[2:4]), mean(*grads[4:7])]
  state, found = tx.init(params), params
  moved = []
  for g in grads:
    step, state = tx.update(g, state, found)
    moved.append(bool(jnp.any(step["kernel"] != 0)))
    found = optax.apply_updates(found, step)
  assert moved == [True, True, False, True, False, False, True]
  plain, expected = build(**base), params
  state = plain.init(params)
  for g in groups:
    step, state = plain.update(g, state, expected)
    expected = optax.apply_updates(expected, step)
  same(found, expected, 1e-6)


def test_stages_begin_at_0_and_rise():
  base = dict(kind="adamw")
  for every in ([(5, 1)], [(0, 1), (0, 2)], 0, [(0, 0)]):
    with pytest.raises(UserError, match="config.optimizer.every"):
      build(kind="accumulate", base=base, every=every)


# FSAM


def squares(p, rows):
  """A Fisher that is known: the square of the weights."""
  del rows
  return jax.tree.map(jnp.square, p)


def step_of(tx, params, grad, **extra):
  seen = []
  spy = lambda p: seen.append(p) or grad(p)
  step, state = tx.update(
    grad(params), tx.init(params), params, grad_fn=spy, fisher_fn=squares
  )
  return step, state, jax.tree.map(lambda a, b: a - b, seen[0], params)


def test_fsam_perturbs_the_largest_of_the_fisher_alone():
  params = {"a": jnp.float32([1.0, -4.0]), "b": jnp.float32([[3.0], [0.5]])}
  grad = lambda p: jax.tree.map(lambda x: 2.0 * x, p)
  base = dict(kind="adamw", weight_decay=0.0)
  tx = build(kind="fsam", rho=0.3, keep=0.5, base=base)
  _, state, moved = step_of(tx, params, grad)
  assert state.mask["a"].tolist() == [False, True]
  assert state.mask["b"].tolist() == [[True], [False]]
  size = 2.0 * float(optax.tree.norm(params))  # of the whole gradient
  np.testing.assert_allclose(moved["a"], [0, 0.3 * -8 / size], atol=1e-6)
  np.testing.assert_allclose(moved["b"], [[0.3 * 6 / size], [0]], atol=1e-6)
  whole = build(kind="fsam", rho=0.3, renormalize=True, base=base)
  _, _, moved = step_of(whole, params, grad)
  assert float(optax.tree.norm(moved)) == pytest.approx(0.3, rel=1e-5)


def test_fsam_is_sam_with_all_and_its_base_with_none():
  params = {"a": draw(5), "b": draw(3, 2)}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  base = dict(kind="adamw")

  def end(tx):
    state, p = tx.init(params), params
    for _ in range(3):
      given = dict(grad_fn=grad, fisher_fn=squares)
      updates, state = tx.update(grad(p), state, p, **given)
      p = optax.apply_updates(p, updates)
    return p

  every = end(build(kind="fsam", keep=1.0, base=base))
  same(every, end(build(kind="sam", base=base)))
  same(end(build(kind="fsam", keep=0.0, base=base)), end(build(**base)))


@pytest.mark.parametrize("keep", [0.1, 0.37, 0.9])
def test_the_share_that_is_kept_is_exact_without_ties(keep):
  tree = {"a": jnp.square(draw(300)), "b": jnp.square(draw(70, 10, seed=1))}
  mask = fsam.largest(tree, keep)
  values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
  kept = np.concatenate([np.ravel(x) for x in jax.tree.leaves(mask)])
  assert kept.sum() == int(keep * 1000)
  assert values[kept].min() > values[~kept].max()


def test_zeros_are_never_kept():
  tree = {"a": jnp.float32([0.0, 0.0, 0.0, 2.0])}
  assert fsam.largest(tree, 0.75)["a"].tolist() == [False] * 3 + [True]
  zeros = {"a": jnp.zeros(4)}
  assert not fsam.largest(zeros, 0.5)["a"].any()


# GradNormLoRP


def normalised(v, g):
  return g * v / jnp.linalg.norm(v, axis=-2, keepdims=True)


def test_its_gradients_are_those_of_the_normalised_matrix():
  w, slope = draw(5, 3), draw(5, 3, seed=1)
  g = jnp.linalg.norm(w, axis=0, keepdims=True)
  loss = lambda v, g: jnp.sum(jnp.sin(normalised(v, g)) * slope)
  direction, magnitude = gradnormlorp.gradients(
    w, jax.grad(lambda w: jnp.sum(jnp.sin(w) * slope))(w)
  )
  expected = jax.grad(loss, (0, 1))(w, g)
  same((direction, magnitude), expected, 2e-6)
  np.testing.assert_allclose(jnp.sum(direction * w, 0), 0, atol=2e-6)


def test_one_step_by_hand():
  """Adam's first step is a sign, in the subspace and of the magnitudes."""
  params = {"kernel": draw(5, 6), "bias": draw(6)}
  grads = {"kernel": draw(5, 6, seed=1), "bias": draw(6, seed=1)}
  tx = build(kind="gradnormlorp", rank=2, scale=0.5, eps=1e-12)
  step, _ = tx.update(grads, tx.init(params), params)
  w = params["kernel"]
  direction, magnitude = gradnormlorp.gradients(w, grads["kernel"])
  basis = galore.leading(direction, 2)
  v = w - 0.1 * 0.5 * basis @ jnp.sign(basis.T @ direction)
  g = jnp.linalg.norm(w, axis=0, keepdims=True) - 0.1 * jnp.sign(magnitude)
  same(step["kernel"], normalised(v, g) - w, 2e-5)
  same(step["bias"], -0.1 * jnp.sign(grads["bias"]), 1e-6)


def test_directions_and_magnitudes_move_apart():
  params = {"loop": {"kernel": draw(2, 5, 6)}}
  grad = lambda p: jax.tree.map(jnp.sin, p)
  lengths = lambda p: jnp.linalg.norm(p["loop"]["kernel"], axis=-2)
  turn = lambda p: p["loop"]["kernel"] / lengths(p)[:, None]
  still = walk(
    build(kind="gradnormlorp", rank=2, magnitude_rate=0.0), params, grad
  )
  same(lengths(still), lengths(params), 1e-6)
  assert jnp.abs(turn(still) - turn(params)).max() > 0.01
  grown = walk(build(kind="gradnormlorp", rank=2, scale=0.0), params, grad)
  same(turn(grown), turn(params), 1e-6)
  assert jnp.abs(lengths(grown) - lengths(params)).max() > 0.01


def test_an_output_of_length_0_learns():
  params = {"kernel": draw(5, 6).at[:, 2].set(0.0)}
  grad = lambda p: jax.tree.map(lambda x: x - 1.0, p)
  found = walk(build(kind="gradnormlorp", rank=2), params, grad)
  assert np.isfinite(found["kernel"]).all()
  assert (jnp.abs(found["kernel"][:, 2]) > 1e-3).all()


def test_its_states_are_as_small_as_the_formula():
  """One-sided: 2 l r of moments, s r of bases, 2 outputs; 8 bits: a quarter."""
  rows, columns, rank = 256, 512, 32
  params = {"kernel": jnp.zeros((rows, columns))}
  values = 2 * columns * rank + rows * rank + 2 * columns
  nbytes = lambda tx: sum(x.nbytes for x in jax.tree.leaves(tx.init(params)))
  tx = build(kind="gradnormlorp", rank=rank)
  assert nbytes(tx) == 4 * values + 4 + 4 + 4  # three counts
  small = build(kind="gradnormlorp", rank=rank, eight_bit=True)
  adam = 2 * rows * columns * 4 + 8
  moments = 2 * columns * rank
  assert nbytes(small) == pytest.approx(
    moments * (1 + 4 / 256) + 4 * (values - moments), rel=1e-2
  )
  assert nbytes(small) < 0.2 * adam


# SOAP


def test_soap_finds_its_bases_first_and_is_then_adam_in_them():
  g, h = draw(4, 6), draw(4, 6, seed=1)
  params = {"stack": {"kernel": draw(4, 6, seed=2)}}
  tx = build(kind="soap", weight_decay=0.0, eps=1e-12, refresh=10)
  wrap = lambda x: {"stack": {"kernel": x}}
  state = tx.init(params)
  step, state = tx.update(wrap(g), state, params)
  assert (step["stack"]["kernel"] == 0).all()
  step, _ = tx.update(wrap(h), state, params)
  left = jnp.linalg.eigh(g @ g.T)[1]
  right = jnp.linalg.eigh(g.T @ g)[1]
  # Adam's first step is a sign, here in the eigenbasis of the first gradient;
  # of a rank of 4, the 2 other right vectors are any that complete the basis.
  turned = jnp.linalg.svd(step["stack"]["kernel"] / -0.1, compute_uv=False)
  known = jnp.sign(left.T @ h @ right[:, 2:])
  kept = left.T @ (step["stack"]["kernel"] / -0.1) @ right[:, 2:]
  same(kept, known, 2e-4)
  np.testing.assert_allclose(jnp.sum(turned**2), 24.0, rtol=1e-4)
