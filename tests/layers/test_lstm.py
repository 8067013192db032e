"""ELMo's memory against its formula, and its inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import errors, paths
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.embeddings.character_cnn import spelled_bytes
from jaxlm.layers.embeddings.subword_vectors import buckets
from jaxlm.layers.mixers import mixers
from tests import tiny

WIDTH, CELLS = 8, 6
WORDS = ("[PAD]", "run", "runs", "##né", "a", "unlikelihood")


def made(part, *args, **kwargs):
  """Wide float64 parameters of a part."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: part.init(jax.random.key(0), *args, **kwargs))
  return jax.tree.map(
    lambda leaf: 0.5 * rng.standard_normal(leaf.shape),
    jax.tree.map(lambda box: box.unbox(), shapes, is_leaf=_boxed),
  )


def _boxed(leaf):
  return hasattr(leaf, "unbox")


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def slow(x, segments, p, clip, normed):
  """Token by token, each document by itself."""
  out = np.zeros((*segments.shape, WIDTH))
  for row in range(len(segments)):
    for document in range(1, segments[row].max() + 1):
      state, memory = np.zeros(WIDTH), np.zeros(CELLS)
      for t in np.flatnonzero(segments[row] == document):
        gates = x[row, t] @ p["input/kernel"] + p["bias"]
        gates = gates + state @ p["cell/state/kernel"]
        i, f, g, o = gates.reshape(CELLS, 4).T
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        memory = np.clip(memory, -clip, clip)
        state = (sigmoid(o) * np.tanh(memory)) @ p["cell/projection/kernel"]
        state = np.clip(state, -clip, clip)
        if normed:
          state = (state - state.mean()) / np.sqrt(state.var() + 1e-5)
          state = state * p["cell/norm/norm/scale"] + p["cell/norm/norm/bias"]
        out[row, t] = state
  return out


@pytest.mark.parametrize("normed", [False, True])
def test_it_is_its_formula_in_every_document(normed):
  """With clips that bite, packed rows as documents alone, in float64."""
  x = np.random.default_rng(1).standard_normal((2, 16, 5))
  norm = dict(kind="layer_norm", epsilon=1e-5) if normed else None
  with jax.enable_x64(True):
    part = mixers.build(
      dict(kind="lstm", cells=CELLS, clip=0.3, norm=norm),
      width=WIDTH,
      dtype=jnp.float64,
      param_dtype=jnp.float64,
    )
    variables = made(part, x, tiny.context())
    found = np.asarray(jax.jit(part.apply)(variables, x, tiny.context()))
  params = paths.flatten(variables["params"])
  expected = slow(x, tiny.SEGMENTS, params, 0.3, normed)
  real = tiny.SEGMENTS > 0
  np.testing.assert_allclose(found[real], expected[real], atol=1e-12)
  assert normed or np.isclose(np.abs(expected).max(), 0.3)


def test_dropout_keeps_to_its_features_along_the_row():
  part = mixers.build(dict(kind="lstm", cells=CELLS, dropout=0.5), width=WIDTH)
  x = np.random.default_rng(1).standard_normal((2, 16, 5))
  ctx = tiny.context(np.ones((2, 16), np.int32), train=True)
  variables = tiny.fill(tiny.shapes(part, x, ctx))
  out = jax.jit(part.apply)(
    variables, x, ctx, rngs={"dropout": jax.random.key(0)}
  )
  zero = np.asarray(out) == 0
  assert (zero == zero[:, :1]).all()
  assert 0 < zero[:, 0].sum() < zero[:, 0].size


def test_it_starts_by_remembering_and_cannot_decode():
  part = mixers.build(dict(kind="lstm", cells=2), width=4)
  x = jnp.zeros((1, 3, 4))
  ctx = tiny.context(np.ones((1, 3), np.int32))
  bias = jax.jit(part.init)(jax.random.key(0), x, ctx)["params"]["bias"]
  np.testing.assert_array_equal(bias.unbox(), [0, 1, 0, 0] * 2)
  with pytest.raises(errors.UserError, match="cannot decode"):
    part.init(jax.random.key(0), x, ctx.replace(cache_length=4))


def build(kind, **fields):
  return embeddings.build(
    {"kind": kind, "vocabulary": WORDS, **fields},
    width=WIDTH,
    vocab_size=len(WORDS),
    dtype=jnp.float64,
    param_dtype=jnp.float64,
  )


def rows(part, ids):
  """(rows of ids, parameters), in float64."""
  with jax.enable_x64(True):
    run = lambda part, tokens: part.project(part.lookup(tokens))
    tokens = jnp.asarray([ids])
    variables = made(part, tokens, method=run)
    found = jax.jit(lambda v, t: part.apply(v, t, method=run))(
      variables, tokens
    )
  return np.asarray(found)[0], paths.flatten(variables["params"])


def test_bytes_between_marks():
  table = spelled_bytes(WORDS, len(WORDS), 6)
  np.testing.assert_array_equal(table[1], [256, *b"run", 257, 258])
  np.testing.assert_array_equal(table[5], [256, *b"unli", 257])


# Each token once, or as often as it is there.
@pytest.mark.parametrize("ids", [(1, 3, 5), (1, 3, 5, 0, 1, 2, 3, 4)])
def test_a_character_cnn_is_its_formula(ids):
  fields = dict(
    characters=7, character_width=3, filters=((1, 4), (3, 5)), highways=2
  )
  found, p = rows(build("character_cnn", **fields), ids)
  for place, token in enumerate(ids):
    letters = p["table"][spelled_bytes(WORDS, len(WORDS), 7)[token]]
    parts = []
    for index, (places, _) in enumerate(fields["filters"]):
      windows = np.stack(
        [letters[k : k + places].ravel() for k in range(7 - places + 1)]
      )
      values = windows @ p[f"convolutions_{index}/kernel"]
      values = values + p[f"convolutions_{index}/bias"]
      parts.append(np.maximum(values.max(0), 0))
    x = np.concatenate(parts)
    for k in range(2):
      carry, change = (
        x @ p[f"{name}_{k}/kernel"] + p[f"{name}_{k}/bias"]
        for name in ("carries", "changes")
      )
      gate = sigmoid(carry)
      x = gate * x + (1 - gate) * np.maximum(change, 0)
    expected = x @ p["projection/kernel"] + p["projection/bias"]
    np.testing.assert_allclose(found[place], expected, atol=1e-12)


def test_subword_vectors_are_means_of_n_grams():
  """Of '<run>': <ru, run, un>, <run, run>; tokens share what they share."""
  fields = dict(vector_width=5, shortest=3, longest=4, buckets=50)
  found, p = rows(build("subword_vectors", **fields), (1, 2))
  grams, count = buckets(WORDS, len(WORDS), (3, 4), 50)
  np.testing.assert_array_equal(count[:3], [9, 5, 7])
  shared = set(grams[1][:5]) & set(grams[2][:7])
  assert len(shared) >= 3  # <ru, run, <run
  for place, token in enumerate((1, 2)):
    own = [p["table"][token]]
    own += [p["table"][len(WORDS) + g] for g in grams[token] if g >= 0]
    vector = np.mean(own, axis=0)
    expected = vector @ p["projection/kernel"] + p["projection/bias"]
    np.testing.assert_allclose(found[place], expected, atol=1e-12)


@pytest.mark.parametrize(
  "kind, fields, words",
  [
    ("character_cnn", dict(characters=2, filters=((3, 4),)), "3 characters"),
    ("subword_vectors", dict(shortest=4, longest=3), "shortest=4 to longest=3"),
  ],
)
def test_what_cannot_be_spelled(kind, fields, words):
  with pytest.raises(errors.UserError, match=words):
    rows(build(kind, **fields), (1,))
