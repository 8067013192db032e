"""The train step: one jitted function for every objective and optimizer.

Gradients are exact under accumulation: an objective's denominators are a
function of the whole batch's data, so they are known before the microbatches
run, and each microbatch adds its share of the one loss.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxlm import sharding
from jaxlm.training.state import TrainState, shardings_of
from jaxlm.types import Array, Batch


class Clock(NamedTuple):
  """Where the run is.

  Attributes:
    step: int32 scalar, the step whose batch this is. A state that stopped at
      a non-finite loss is behind it and then stays as it is.
    schedule_step: scalar, where the schedule stands: the step, or the share
      of a time budget that has passed, in steps of the schedule.
  """

  step: Array
  schedule_step: Array


def make_train_step(
  model,
  objective,
  tx: optax.GradientTransformation,
  *,
  schedule: Callable[[Array], Array],
  microbatches: int = 1,
  clip_norm: float = 0.0,
  mesh: Mesh | None = None,
  state: TrainState | None = None,
) -> Callable:
  """Makes `step(state, batch, clock=None) -> (state, metrics)`, jitted.

  The state is donated. A step whose loss or gradient is not finite changes
  nothing, and neither do the steps after it (see `Clock`).

  Args:
    model: a Linen module.
    objective: see docs/design.md.
    tx: an optax transformation. It is given `value` (the loss), `obj_fn`
      (params -> loss on this batch), `grad_fn` (params -> its gradient, not
      clipped), `hvp_fn` (tangents -> the Hessian times them, beside the
      gradient that is there; None with microbatches, whose intermediates
      would all be kept), `fisher_fn` (params, rows -> `fisher`) and
      `schedule_step`; closures that nobody calls cost nothing.
    schedule: schedule step -> learning rate, for the metrics.
    microbatches: parts of the batch that run one after the other.
    clip_norm: largest global gradient norm; 0 is off.
    mesh: keeps microbatches spread evenly over it.
    state: a state or its shapes, with shardings that the new state keeps.

  Returns:
    The step. Metrics are float32 scalars: `loss`, one `loss/<term>` a term,
    the objective's metrics as means, `grad_norm` (before clipping),
    `param_norm`, `learning_rate`, `tokens` (real ones, int32), `finite`
    (bool), `step` (int32, updates done).
  """
  tx = optax.with_extra_args_support(tx)
  places = shardings_of(state) if state is not None and mesh else None
  value_and_grad = make_value_and_grad(
    model, objective, microbatches, mesh, places and places.params
  )

  def step(state: TrainState, batch: Batch, clock: Clock | None = None):
    clock = clock or Clock(state.step, state.step)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)

    def run(params):
      return value_and_grad(params, state.extra, batch, key)

    hvp_fn = None
    if microbatches == 1 and asks_for_products(tx, state):
      found, push = jax.linearize(run, state.params)
      hvp_fn = lambda tangents: push(tangents)[1]
    else:
      found = run(state.params)
    (loss, (extra, scalars)), grads = found
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    good = finite & (state.step == clock.step)
    updates, opt_state = tx.update(
      clip(grads, grad_norm, clip_norm),
      state.opt_state,
      state.params,
      value=loss,
      obj_fn=lambda params, *_: run(params)[0][0],
      grad_fn=lambda params, *_: run(params)[1],
      hvp_fn=hvp_fn,
      fisher_fn=functools.partial(
        fisher,
        model,
        objective,
        state.extra,
        batch,
        mesh=mesh,
        places=places and places.params,
      ),
      schedule_step=clock.schedule_step,
    )
    params = optax.apply_updates(state.params, updates)
    new = (params, opt_state, {**state.extra, **extra})
    old = (state.params, state.opt_state, state.extra)
    params, opt_state, extra = jax.tree.map(
      lambda n, o: jnp.where(good, n, o), new, old
    )
    new_state = TrainState(
      step=state.step + good.astype(jnp.int32),
      params=params,
      opt_state=opt_state,
      extra=extra,
      key=state.key,
    )
    param_norm = optax.tree.norm(params)
    metrics = scalars | {
      "loss": loss,
      "grad_norm": grad_norm,
      "param_norm": param_norm,
      "learning_rate": schedule(clock.schedule_step),
    }
    metrics = {k: jnp.asarray(v, jnp.float32) for k, v in metrics.items()}
    metrics |= {
      "tokens": real_tokens(batch),
      "finite": good & jnp.isfinite(param_norm),
      "step": new_state.step,
    }
    return new_state, metrics

  out = None
  if places is not None:
    out = (places, NamedSharding(mesh, PartitionSpec()))
  return jax.jit(step, donate_argnums=0, out_shardings=out)


def asks_for_products(tx, state: TrainState) -> bool:
  """Whether `tx.update` calls the `hvp_fn` that it is given."""
  asked = []

  def hvp_fn(tangents):
    asked.append(tangents)
    return tangents

  alike = lambda params, *_: params
  jax.eval_shape(
    lambda params, opt_state: tx.update(
      _float32(params),
      opt_state,
      params,
      value=jnp.float32(0),
      obj_fn=lambda *_: jnp.float32(0),
      grad_fn=alike,
      hvp_fn=hvp_fn,
      fisher_fn=alike,
      schedule_step=jnp.int32(0),
    ),
    state.params,
    state.opt_state,
  )
  return bool(asked)


def make_value_and_grad(
  model, objective, microbatches=1, mesh=None, places=None
):
  """Makes `f(params, extra, batch, key) -> (loss, (extra, metrics)), grads`.

  The gradient is at least float32, whatever the parameters are, and that of
  the whole batch's loss for any number of microbatches.

  Args:
    model: a Linen module.
    objective: see docs/design.md.
    microbatches: parts of the batch that run one after the other.
    mesh: keeps microbatches spread evenly over it.
    places: shardings of the parameters. Those split by `fsdp` are gathered
      once a step and their gradients scattered, so that activations stay
      split by rows: left to itself, XLA splits activations by features.
  """

  def objective_of(params, extra, batch, key, denominators):
    variables = {"params": params, **extra}
    outcome = objective(model, variables, batch, key, train=True)
    terms = {t: s / denominators[t] for t, s in outcome.sums.items()}
    loss = sum(
      term * objective.coefficients.get(name, 1.0)
      for name, term in terms.items()
    )
    return loss, ({**extra, **outcome.extra}, terms, dict(outcome.metrics))

  def run(params, extra, batch, key):
    denominators = denominators_of(objective, batch)
    params = gather(params, places)

    def one(extra, batch, key):
      (loss, (extra, terms, metrics)), grads = jax.value_and_grad(
        objective_of, has_aux=True
      )(params, extra, batch, key, denominators)
      grads = scatter(gather(_float32(grads), places), places)
      return extra, (loss, terms, metrics), grads

    if microbatches == 1:
      extra, scalars, grads = one(extra, batch, jax.random.fold_in(key, 0))
    else:
      parts = split_batch(batch, microbatches, mesh)

      def body(carry, part):
        extra, grads = carry
        index, part = part
        extra, scalars, new = one(extra, part, jax.random.fold_in(key, index))
        return (extra, jax.tree.map(jnp.add, grads, new)), scalars

      zeros = scatter(jax.tree.map(jnp.zeros_like, _float32(params)), places)
      (extra, grads), scalars = jax.lax.scan(
        body, (extra, zeros), (jnp.arange(microbatches), parts)
      )
      scalars = jax.tree.map(lambda x: jnp.sum(x, axis=0), scalars)
    loss, terms, metrics = scalars
    named = {f"loss/{name}": value for name, value in terms.items()}
    return (loss, (extra, named | means(metrics))), grads

  return run


def fisher(
  model, objective, extra, batch, params, rows=0, *, mesh=None, places=None
):
  """The empirical Fisher information's diagonal, a tree like `params`.

  The mean over rows of the squared gradient of a row's own log-likelihood
  (the sum of its losses), without dropout.

  Args:
    model: a Linen module.
    objective: see docs/design.md.
    extra: mutable collections of the model.
    batch: [rows, ...] arrays.
    params: where gradients are taken.
    rows: so many rows, evenly spread over the batch; 0 takes all. Rounded up
      to what divides the batch and keeps every device of its axes busy.
    mesh: of the devices.
    places: shardings of the parameters, as of `make_value_and_grad`.
  """
  params = gather(params, places)
  at_once = 1 if mesh is None else sharding.batch_ways(mesh)
  total = batch["inputs"].shape[0]
  count = next(
    n
    for n in range(min(rows or total, total), total + 1)
    if total % n == 0 and n % at_once == 0
  )
  step = total // count
  chosen = {
    k: v.reshape(count, step, *v.shape[1:])[:, 0] for k, v in batch.items()
  }

  def likelihood(params, row):
    one = {key: value[None] for key, value in row.items()}
    outcome = objective(
      model, {"params": params, **extra}, one, None, train=False
    )
    return sum(
      objective.coefficients.get(name, 1.0) * value
      for name, value in outcome.sums.items()
    )

  def add(total, part):
    grads = jax.vmap(jax.grad(likelihood), (None, 0))(params, part)
    squares = jax.tree.map(lambda g: jnp.sum(jnp.square(g), axis=0), grads)
    return jax.tree.map(jnp.add, total, _float32(squares)), None

  parts = split_batch(chosen, count // at_once, mesh)
  zeros = _float32(jax.tree.map(jnp.zeros_like, params))
  sums, _ = jax.lax.scan(add, zeros, parts)
  return scatter(jax.tree.map(lambda x: x / count, sums), places)


def gather(tree, places):
  """A tree shaped like the parameters, whole along `fsdp`."""
  return scatter(tree, None if places is None else sharding.gathered(places))


def scatter(tree, places):
  """A tree shaped like the parameters, placed like them."""
  if places is None:
    return tree
  return jax.tree.map(jax.lax.with_sharding_constraint, tree, places)


def denominators_of(objective, batch: Batch) -> dict[str, Array]:
  """Term -> max(its weight in the batch, 1), float32 scalars."""
  return {
    term: jnp.maximum(jnp.asarray(weight, jnp.float32), 1.0)
    for term, weight in objective.weights(batch).items()
  }


def means(metrics) -> dict[str, Array]:
  """name -> sum / weight, 0 where nothing was weighed."""
  return {
    name: total / jnp.where(weight == 0, 1.0, weight)
    for name, (total, weight) in metrics.items()
  }


def clip(grads, norm: Array, limit: float):
  """Gradients scaled down to a global norm of `limit`; 0 is off."""
  if not limit:
    return grads
  # A zero norm divides by the limit instead and scales nothing.
  factor = limit / jnp.maximum(norm, limit)
  return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads)


def split_batch(batch: Batch, count: int, mesh: Mesh | None = None):
  """[rows, ...] -> [count, rows / count, ...], every count-th row together.

  Rows are interleaved so that each part has as many rows on every device as
  the others, and none of them moves.
  """

  def split(x):
    x = x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)
    if mesh is None:
      return x
    place = NamedSharding(mesh, PartitionSpec(None, sharding.BATCH))
    return jax.lax.with_sharding_constraint(x, place)

  return {key: split(value) for key, value in batch.items()}


def real_tokens(batch: Batch) -> Array:
  """Number of tokens that are not padding, int32."""
  if "segments" in batch:
    return jnp.sum(batch["segments"] > 0, dtype=jnp.int32)
  return jnp.int32(max((value.size for value in batch.values()), default=0))


def _float32(tree):
  return jax.tree.map(
    lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree
  )
