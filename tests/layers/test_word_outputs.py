"""Outputs over many words: sampled and adaptive softmaxes, and vectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import elmo_c
from jaxlm import context, errors, paths, recipe, sharding
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.heads import adaptive_softmax, heads, sampled_softmax
from jaxlm.models import assembly
from jaxlm.objectives import objectives
from jaxlm.types import Losses, Task
from tests import tiny

HIDDEN = jnp.asarray(
  np.random.default_rng(0).standard_normal((tiny.BATCH, tiny.LENGTH, 32)),
  jnp.float32,
)
TABLE = embeddings.build({"kind": "token"}, vocab_size=tiny.VOCAB, width=32)
SAMPLED = dict(kind="sampled_softmax", samples=16)
ADAPTIVE = dict(kind="adaptive_softmax", cutoffs=(16, 40), divisor=2.0)
BOTH = pytest.mark.parametrize(
  "spec", [SAMPLED, ADAPTIVE], ids=lambda s: s["kind"]
)


def shifted(segments=tiny.SEGMENTS) -> dict:
  """A batch with targets: the next token inside a document."""
  batch = tiny.batch(segments)
  same = np.pad(segments[:, 1:] == segments[:, :-1], ((0, 0), (0, 1)))
  batch["weights"] = (same & (segments > 0)).astype(np.float32)
  ahead = np.pad(batch["inputs"][:, 1:], ((0, 0), (0, 1)))
  batch["targets"] = np.where(batch["weights"] > 0, ahead, 0).astype(np.int32)
  return batch


@functools.cache
def _head(items):
  head = heads.build(dict(items))
  shapes = tiny.shapes(head, HIDDEN, {}, TABLE, tiny.context())
  return head, tiny.fill(shapes)


def run(spec, batch, train, hidden=HIDDEN, seed=0, params=None):
  head, made = _head(tuple(spec.items()))
  rngs = {"dropout": jax.random.key(seed)}
  ctx = tiny.context(train=train)
  return head.apply(params or made, hidden, batch, TABLE, ctx, rngs=rngs)


def test_expected_counts_are_those_of_the_closed_form():
  """P = ln((k + 2)/(k + 1)) / ln(V + 1), which sums to 1 over the words."""
  chance = np.asarray(sampled_softmax.probabilities(jnp.arange(500), 500))
  assert chance.sum() == pytest.approx(1.0, abs=1e-5)
  assert chance[0] == pytest.approx(np.log(2) / np.log(501), rel=1e-6)
  # By hand: what 100 tries miss with (1 - P)^100.
  expected = 1 - (1 - chance.astype(np.float64)) ** 100
  found = sampled_softmax.log_expected(jnp.arange(500), 100, 500)
  np.testing.assert_allclose(np.exp(found), expected, rtol=2e-5)


def test_samples_are_distinct_and_as_frequent_as_expected():
  """A loop of tries until there are enough; frequencies within 5 sigma."""
  vocab, samples, rounds = 60, 20, 4000
  draws = jax.jit(
    jax.vmap(
      functools.partial(sampled_softmax.draw, samples=samples, vocab=vocab)
    )
  )
  ids, filled, tries = draws(jax.random.split(jax.random.key(0), rounds))
  assert np.asarray(filled).all() and int(ids.max()) < vocab
  assert all(len(set(row)) == samples for row in np.asarray(ids).tolist())
  # The same by a loop over numpy's own numbers.
  random, chance = (
    np.random.default_rng(0),
    np.log1p(1 / np.arange(1, vocab + 1)),
  )
  chance /= chance.sum()
  counts, total = np.zeros(vocab), []
  for _ in range(rounds):
    drawn = random.choice(vocab, 400, p=chance)
    _, first = np.unique(drawn, return_index=True)
    last = np.sort(first)[samples - 1]
    counts[np.unique(drawn[: last + 1])] += 1
    total.append(last + 1)
  found = np.bincount(np.asarray(ids).ravel(), minlength=vocab) / rounds
  share = counts / rounds
  sigma = np.sqrt(2 * np.maximum(share * (1 - share), 1e-3) / rounds)
  assert (np.abs(found - share) < 5 * sigma).all()
  spread = np.std(total) * np.sqrt(2 / rounds)
  assert abs(np.mean(tries) - np.mean(total)) < 5 * spread


@pytest.mark.slow  # importing TensorFlow
def test_sampled_losses_are_tensorflows():
  """tf.nn.sampled_softmax_loss of the same sample, accidental hits and all."""
  tf = pytest.importorskip("tensorflow")
  rng = np.random.default_rng(0)
  n, width, vocab, samples = 40, 8, 50, 12
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  states, table, bias = draw(n, width), draw(vocab, width), draw(vocab)
  labels = rng.integers(0, vocab, n).astype(np.int32)
  ids, _, tries = sampled_softmax.draw(jax.random.key(1), samples, vocab)
  ids = np.asarray(ids)
  assert np.isin(labels, ids).sum() > 3  # hits
  logs = sampled_softmax.log_expected(jnp.arange(vocab), tries, vocab)
  counts = np.exp(np.asarray(logs))
  expected = tf.nn.sampled_softmax_loss(
    weights=table,
    biases=bias,
    labels=labels[:, None].astype(np.int64),
    inputs=states,
    num_sampled=samples,
    num_classes=vocab,
    sampled_values=(
      ids.astype(np.int64),
      counts[labels][:, None],
      counts[ids],
    ),
  ).numpy()
  found = sampled_softmax.losses(states, labels, table, bias, ids, logs)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_sample_of_all_words_is_the_whole_softmax():
  params = tiny.host(_head(tuple(SAMPLED.items()))[1]["params"])
  states = HIDDEN.reshape(-1, 32)
  labels = np.arange(32) % tiny.VOCAB
  every = jnp.arange(tiny.VOCAB)
  found = sampled_softmax.losses(
    states, labels, params["table"], params["output_bias"], every, 0.0 * every
  )
  logits = run(SAMPLED, {}, train=False).reshape(-1, tiny.VOCAB)
  log = jax.nn.log_softmax(logits)
  np.testing.assert_allclose(
    found, -np.asarray(log)[np.arange(32), labels], rtol=1e-5, atol=1e-5
  )


def test_more_samples_than_words_are_refused():
  with pytest.raises(errors.UserError, match="samples=64 of 64 tokens"):
    sampled_softmax.draw(jax.random.key(0), 64, 64)


def slow_adaptive(params, states, cutoffs, vocab):
  """log p of every token in float64, one at a time as the paper tells it."""
  p = {k: np.asarray(v, np.float64) for k, v in params.items()}
  log = lambda x: x - np.log(np.sum(np.exp(x), -1, keepdims=True))
  head = log(states @ p["head_table"].T)
  borders, found = (*cutoffs, vocab), np.zeros((len(states), vocab))
  for word in range(vocab):
    tail = sum(word >= low for low in cutoffs) - 1
    if tail < 0:
      found[:, word] = head[:, word]
      continue
    narrow = states @ p[f"tail_{tail}_kernel"]
    inside = log(narrow @ p[f"tail_{tail}_table"].T)
    found[:, word] = head[:, cutoffs[0] + tail]
    found[:, word] += inside[:, word - borders[tail]]
  return found


def test_adaptive_probabilities_are_the_papers_and_sum_to_one():
  found = run(ADAPTIVE, {}, train=False).reshape(-1, tiny.VOCAB)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(np.exp(found).sum(-1), 1.0, atol=1e-5)
  params = _head(tuple(ADAPTIVE.items()))[1]["params"]
  assert params["tail_0_kernel"].shape == (32, 16)
  assert params["tail_1_table"].shape == (24, 8)
  expected = slow_adaptive(
    params, np.asarray(HIDDEN, np.float64).reshape(-1, 32), (16, 40), tiny.VOCAB
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("capacity", [1.0, 0.3, 0.04])
def test_adaptive_losses_are_exact_however_full_the_tails(capacity):
  """Losses and gradients of passes, against those of whole log p."""
  spec = ADAPTIVE | dict(capacity=capacity)
  batch, params = shifted(), _head(tuple(ADAPTIVE.items()))[1]
  rng = np.random.default_rng(0)
  targets = rng.integers(0, tiny.VOCAB, batch["targets"].shape)
  batch["targets"] = np.where(batch["weights"] > 0, targets, 0)

  def passes(params):
    nats = run(spec, batch, train=True, params=params).nats
    return jnp.sum(nats * batch["weights"])

  def whole(params):
    log = run(spec, batch, train=False, params=params)
    chosen = jnp.take_along_axis(log, batch["targets"][..., None], -1)[..., 0]
    return -jnp.sum(chosen * batch["weights"])

  found, expected = (jax.value_and_grad(f)(params) for f in (passes, whole))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cutoffs", [(), (40, 16), (16, 64), (0, 16)])
def test_cutoffs_must_rise_inside_the_vocabulary(cutoffs):
  with pytest.raises(errors.UserError, match="rise from 1 to below .* 64"):
    adaptive_softmax.edges(cutoffs, 64)
  assert adaptive_softmax.edges((16, 40), 64) == (16, 40, 64)


def model_of(spec, ways):
  """A causal model with the head, of one direction or two."""
  if ways == 1:
    layer = tiny.layer(mixer=dict(causal=True))
    made = tiny.model_spec(kind="decoder", layers=dict(layer=layer))
    return made | dict(heads=dict(causal_lm=spec))
  mixer = dict(kind="lstm", cells=16)
  tower = dict(
    kind="encoder",
    width=32,
    positions=dict(kind="none"),
    layers=dict(a=dict(block=dict(kind="mixer_only"), mixer=mixer)),
  )
  return dict(
    kind="bidirectional_lm",
    width=32,
    vocab_size=tiny.VOCAB,
    embeddings=dict(kind="token"),
    towers=dict(forward=tower, backward=tower),
    heads=dict(bidirectional_lm=spec | dict(directions=2)),
  )


@BOTH
@pytest.mark.parametrize("ways", [1, 2])
def test_the_usual_objectives_take_what_heads_score(spec, ways):
  """In training `Losses`; in evaluations the whole softmax, and accuracy."""
  made = model_of(spec, ways)
  batch = shifted()
  model = assembly.build(made)
  variables = tiny.fill(tiny.shapes(model, batch), scale=0.1)
  kind = "causal_lm" if ways == 1 else "bidirectional_lm"
  objective = objectives.build({"kind": kind})

  @functools.partial(jax.jit, static_argnames="train")
  def outcome(train):
    return objective(model, variables, batch, jax.random.key(0), train=train)

  learned, judged = outcome(True), outcome(False)
  assert "accuracy" in judged.metrics and "accuracy" not in learned.metrics
  count = objective.weights(batch)[kind]
  # Narrow weights: all entries of a softmax are about as likely.
  labels, weights = context.neighbours(batch, ways)
  flat = np.full(labels.shape, np.log(tiny.VOCAB))
  if spec is ADAPTIVE:
    flat = np.log(18) + (np.asarray(labels) >= 16) * np.log(24)
  uniform = float(np.sum(flat * np.asarray(weights)) / count)
  assert judged.sums[kind] / count == pytest.approx(uniform, rel=0.1)
  if spec is ADAPTIVE:  # exact, not an estimate
    np.testing.assert_allclose(learned.sums[kind], judged.sums[kind], rtol=1e-4)
  assert np.isfinite(learned.sums[kind])


@BOTH
def test_training_is_the_same_on_eight_devices(spec):
  made, batch = model_of(spec, 1), shifted(np.concatenate([tiny.SEGMENTS] * 2))
  model = assembly.build(made)
  shapes = tiny.shapes(model, batch)
  variables = tiny.fill(shapes)
  objective = objectives.build({"kind": "causal_lm"})

  @jax.jit
  def grads(variables, batch):
    loss = lambda v: objective(
      model, v, batch, jax.random.key(3), train=True
    ).sums["causal_lm"]
    return jax.value_and_grad(loss)(variables)

  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  placed = jax.device_put(variables, sharding.state_shardings(shapes, mesh))
  found = grads(placed, sharding.shard_batch(batch, mesh))
  expected = grads(variables, batch)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-3)


def test_directions_must_be_those_of_the_model():
  for spec, kind in ((dict(SAMPLED, directions=2), "decoder"), (SAMPLED, "")):
    made = model_of(spec, 1 if kind else 2)
    name = "causal_lm" if kind else "bidirectional_lm"
    made["heads"] = {name: spec}
    with pytest.raises(errors.UserError, match="directions is"):
      assembly.build(made)
  given = Losses(jnp.zeros((2, 3)))
  from jaxlm.objectives import base

  with pytest.raises(errors.UserError, match="directions=2"):
    base.cross_entropy(given, jnp.zeros((2, 3, 2), jnp.int32))


def test_each_direction_has_a_map_of_its_own():
  """Forward states make the first vector, backward ones the second."""
  spec = dict(kind="continuous", vector_width=5, directions=2)
  head = heads.build(spec)
  both = jnp.concatenate([HIDDEN, -2.0 * HIDDEN], axis=-1)
  params = tiny.fill(tiny.shapes(head, both, {}, TABLE, tiny.context()))
  found = head.apply(params, both, {}, TABLE, tiny.context())
  p = tiny.host(params["params"])
  for way, (name, states) in enumerate(
    (("forward", HIDDEN), ("backward", -2.0 * HIDDEN))
  ):
    expected = np.asarray(states) @ p[name]["kernel"] + p[name]["bias"]
    np.testing.assert_allclose(found[:, :, way], expected, rtol=1e-4, atol=1e-4)


def test_flops_are_of_the_weights_that_a_place_meets():
  """Of 64 words 16 and the target, or the first 16 and passes of tails."""
  array = jax.ShapeDtypeStruct((2, 16), jnp.int32)
  with_targets = Task("a", {"inputs": array, "targets": array}, None, 2)
  without = Task("a", {"inputs": array}, None, 2)
  for spec, met in (
    (SAMPLED, 17 * 33),
    (ADAPTIVE, 18 * 32 + (32 * 16 + 24 * 16 + 32 * 8 + 24 * 8) / 8),
  ):
    made = model_of(spec, 1)
    shapes = recipe.shapes(assembly.build(made))
    counted = recipe.flops_per_step(made, shapes, with_targets)
    body = recipe.flops_per_step(made, shapes, without)
    assert counted - body == pytest.approx(6 * met * 32)


def test_vectors_reach_the_towers_in_their_order():
  """The backward tower reads a row's vectors last word first."""
  made = model_of(SAMPLED, 2)
  made["embeddings"] = dict(kind="given_vectors", vector_width=32)
  model = assembly.build(made)
  batch = shifted()
  variables = tiny.fill(tiny.shapes(model, batch))
  run = jax.jit(lambda b: model.apply(variables, b)["hidden"])
  changed = dict(batch, word_vectors=batch["word_vectors"].copy())
  changed["word_vectors"][0, 3] += 1.0  # in a document of 6 words
  moved = np.abs(np.asarray(run(changed) - run(batch)))[0].reshape(16, 2, 32)
  moved = moved.max(-1) > 1e-6
  assert moved[:, 0].nonzero()[0].tolist() == [3, 4, 5]
  assert moved[:, 1].nonzero()[0].tolist() == [0, 1, 2, 3]
  with pytest.raises(errors.UserError, match="config.data.kind='word_vectors'"):
    model.apply(variables, {"inputs": batch["inputs"]})
  wide = dict(batch, word_vectors=np.zeros((2, 17, 8), np.float32))
  with pytest.raises(errors.UserError, match="data's vectors have 8"):
    model.apply(variables, wide)


def test_elmo_c_has_its_parameters_whatever_the_vocabulary():
  """76M (ELMo 499M), of which nothing is a table of words."""
  small, large = (
    paths.count(
      recipe.shapes(
        assembly.build(elmo_c.get_config("base").model.to_dict(), vocab_size=n)
      )
    )
    for n in (10, 800_000)
  )
  assert small == large and round(large / 1e6) == 76


def test_what_is_to_be_predicted():
  batch = shifted()
  labels, weights = context.neighbours(batch)
  assert labels is batch["targets"] and weights is batch["weights"]
  labels, weights = context.neighbours(batch, 2)
  inputs, segments = batch["inputs"], batch["segments"]
  for row in range(2):
    for t in range(1, 16):
      same = segments[row, t] > 0 and segments[row, t] == segments[row, t - 1]
      assert weights[row, t, 1] == same
      assert labels[row, t, 1] == inputs[row, t - 1]
