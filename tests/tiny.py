"""Small parts, models and batches, filled without compiling an init.

Weights are drawn wide (0.3): the usual 0.02 hides mistakes behind residuals.
"""

import contextlib
import importlib
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.context import Context
from jaxlm.models import assembly

BATCH, LENGTH, WIDTH, HEADS, VOCAB = 2, 16, 32, 4, 64

# Two documents and padding; three documents and padding.
SEGMENTS = np.array(
  [[1] * 6 + [2] * 7 + [0] * 3, [1] * 5 + [2] * 2 + [3] * 5 + [0] * 4],
  np.int32,
)

_FILES = sorted(
  path.stem
  for path in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
)
# The shipped configs of models.
CONFIGS = tuple(
  name
  for name in _FILES
  if "tiny" in getattr(importlib.import_module(f"configs.{name}"), "SIZES", {})
)


@pytest.fixture(autouse=True)
def quick_compilation():
  """Compiles without most optimizations: these programs run once."""
  with switched("jax_disable_most_optimizations", True):
    yield


@contextlib.contextmanager
def switched(option: str, value):
  """A jax option, set for a while."""
  before = jax.config.read(option)
  jax.config.update(option, value)
  try:
    yield
  finally:
    jax.config.update(option, before)


def config_model(name: str, variant: str = "tiny") -> dict:
  """The model spec of a shipped config."""
  module = importlib.import_module(f"configs.{name}")
  return module.get_config(variant).model.to_dict()


def model_spec(**changes) -> dict:
  """A one-layer encoder; top-level keys are replaced by `changes`."""
  spec = dict(
    kind="encoder",
    width=WIDTH,
    vocab_size=VOCAB,
    embeddings=dict(kind="token"),
    positions=dict(kind="none"),
    norm=dict(kind="layer_norm", epsilon=1e-6),
    layers=dict(layer=layer()),
    order=("layer",),
    stack=dict(kind="sequential"),
    heads=dict(),
  )
  return spec | changes


def layer(block=None, mixer=None, feedforward=None) -> dict:
  """A layer of the palette."""
  return dict(
    block=block or dict(kind="pre_norm"),
    mixer=dict(kind="attention", heads=HEADS) | (mixer or {}),
    feedforward=feedforward or dict(kind="mlp", hidden=48),
  )


def build(spec, **given):
  """The model of a spec and parameters drawn for it."""
  model = assembly.build(spec, **{"vocab_size": VOCAB, **given})
  return model, fill(shapes(model, batch() | memory()))


def batch(segments=SEGMENTS, seed=0) -> dict:
  """Packed rows of random tokens, with what embeddings and heads read."""
  rng = np.random.default_rng(seed)
  shape = segments.shape
  real = segments > 0
  rows, length = shape
  inputs = np.where(real, rng.integers(1, VOCAB, shape), 0).astype(np.int32)
  return dict(
    inputs=inputs,
    word_vectors=word_vectors(np.pad(inputs, ((0, 0), (0, 1)))),
    segments=segments,
    positions=positions(segments),
    types=(rng.integers(0, 2, shape) * real).astype(np.int32),
    predict_positions=np.tile(np.array([1, 4, 7], np.int32), (rows, 1)),
    cls_positions=np.tile(np.array([0, 6], np.int32), (rows, 1)),
  )


def word_vectors(ids) -> np.ndarray:
  """Unit vectors [..., WIDTH] of ids; zeros of id 0."""
  table = np.random.default_rng(5).standard_normal((VOCAB, WIDTH))
  table /= np.linalg.norm(table, axis=1, keepdims=True)
  table[0] = 0.0
  return table.astype(np.float32)[ids]


def positions(segments) -> np.ndarray:
  """Positions that restart in every document; the slow way."""
  out = np.zeros(segments.shape, np.int32)
  for row in range(segments.shape[0]):
    for i in range(1, segments.shape[1]):
      same = segments[row, i] == segments[row, i - 1]
      out[row, i] = out[row, i - 1] + 1 if same else 0
  return out


def context(segments=SEGMENTS, **changes) -> Context:
  """The context of packed rows."""
  return Context(
    segments=jnp.asarray(segments),
    positions=jnp.asarray(positions(segments)),
    vectors=jnp.asarray(batch(segments)["word_vectors"][:, :-1]),
    **(memory(segments) | changes),
  )


def memory(segments=SEGMENTS) -> dict:
  """States of an encoder that read as many tokens of the same documents."""
  rng = np.random.default_rng(3)
  states = rng.standard_normal((*np.shape(segments), WIDTH))
  return dict(
    memory=jnp.asarray(states, jnp.float32),
    memory_segments=jnp.asarray(segments),
  )


def shapes(module, *args, **kwargs):
  """Boxed shapes of a module's variables, without running anything."""
  key = jax.random.key(0)
  return jax.eval_shape(
    lambda: module.init({"params": key, "dropout": key}, *args, **kwargs)
  )


def fill(boxed, seed: int = 0, scale: float = 0.3):
  """Arrays for shapes: normal numbers, around 1 for scales of norms."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if jnp.issubdtype(leaf.dtype, jnp.integer):
      return jnp.zeros(leaf.shape, leaf.dtype)
    center = 1.0 if paths.name(path).endswith("scale") else 0.0
    values = center + scale * rng.standard_normal(leaf.shape)
    return jnp.asarray(values, leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, nn.meta.unbox(boxed))


def host(tree):
  """The tree in numpy, for expected values."""
  return jax.tree.map(np.asarray, tree)


def names(boxed) -> dict:
  """{'a/b': logical axis names, or None where a leaf carries none}."""
  is_box = lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
  leaves = jax.tree_util.tree_flatten_with_path(boxed, is_leaf=is_box)[0]
  return {
    paths.name(path): leaf.names if is_box(leaf) else None
    for path, leaf in leaves
  }


def real(array, segments=SEGMENTS):
  """The rows of [batch, length, ...] at real tokens."""
  return np.asarray(array, np.float64)[np.asarray(segments) > 0]
