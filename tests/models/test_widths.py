"""Layers of unlike widths, and FlexiBERT's design dictionaries."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import flexibert
from jaxlm import errors, interop, paths, recipe
from jaxlm.interop import description
from jaxlm.models import assembly
from jaxlm.types import Task
from tests import tiny

VOCAB, PLACES = 512, 2 * 514 - 1


def designs(count, seed=0):
  """Random designs of the published space, at a quarter of its widths."""
  rng = random.Random(seed)
  details = {"sa": ["sdp", "wma"], "l": ["dft", "dct"], "c": [5, 9]}
  for _ in range(count):
    depth = rng.choice([2, 4])
    kinds = [rng.choice(list(details)) for _ in range(depth)]
    yield {
      "l": depth,
      "o": kinds,
      "h": [rng.choice([32, 64]) for _ in range(depth)],
      "n": [rng.choice([2, 4]) for _ in range(depth)],
      "f": [
        [rng.choice([48, 96]) for _ in range(rng.choice([1, 2, 3]))]
        for _ in range(depth)
      ],
      "p": [rng.choice(details[kind]) for kind in kinds],
    }


def dense(inputs, outputs):
  return inputs * outputs + outputs


def counted(design, vocab=VOCAB, head=True):
  """Parameters of a design, by hand."""
  first, last = design["h"][0], design["h"][-1]
  total = vocab * first + 2 * first
  for kind, width, heads, hidden, detail, after in zip(
    *(design[key] for key in "ohnfp"), [*design["h"][1:], last]
  ):
    total += mixing(kind, width, heads, detail) + 4 * width
    for inputs, outputs in zip([width, *hidden], [*hidden, width]):
      total += dense(inputs, outputs)
    total += dense(width, after) if after != width else 0
  return total + (dense(last, first) + 2 * first + vocab if head else 0)


def mixing(kind, width, heads, detail):
  size = width // heads
  places = PLACES * size
  if kind == "c":
    half = (heads // 2) * size
    separable = detail * width + dense(width, half)
    kernels = dense(half, heads // 2 * detail)
    return (
      4 * dense(width, half)
      + separable
      + kernels
      + dense(width, width)
      + places
    )
  if kind == "l":  # keys are never read
    return 3 * dense(width, width) + places
  return 4 * dense(width, width) + places + size**2 * (detail == "wma")


def shapes_of(design, vocab=VOCAB):
  spec = flexibert.model(design) | dict(vocab_size=vocab)
  return recipe.shapes(assembly.build(spec))


@pytest.mark.parametrize("design", list(designs(3)))
def test_any_design_builds_with_as_many_parameters(design):
  assert paths.count(shapes_of(design)) == counted(design)


@pytest.mark.parametrize(
  "variant", ["mini", pytest.param("large", marks=pytest.mark.slow)]
)
def test_published_designs_have_their_parameters(variant):
  design, vocab = flexibert.SIZES[variant][:2]
  assert paths.count(shapes_of(design, vocab)) == counted(design, vocab)


@pytest.mark.slow
def test_a_design_runs_and_learns_from_every_parameter():
  design = next(
    d
    for d in designs(99, seed=1)
    if len(set(d["h"])) == 2 and set(d["o"]) == {"sa", "l", "c"}
  )
  spec = flexibert.model(design, dropout=0.0)
  model, variables = tiny.build(spec)
  batch = tiny.batch()

  @jax.jit
  @jax.grad
  def gradients(params):
    outputs = model.apply({"params": params}, batch)
    assert outputs["hidden"].shape[-1] == design["h"][-1]
    return -jnp.mean(jax.nn.log_softmax(outputs["masked_lm"])[..., 0])

  for path, gradient in paths.flatten(gradients(variables["params"])).items():
    assert np.isfinite(gradient).all(), path
    assert np.abs(gradient).max() > 0 or path.endswith("key/bias"), path


def narrow(**changes):
  """Two layers of 32 features, then one of 16."""
  slim = tiny.layer() | dict(width=16) | changes
  layers = dict(wide=tiny.layer(), slim=slim)
  return tiny.model_spec(layers=layers, order=("wide", "wide", "slim"))


def test_a_map_between_layers_of_unlike_width():
  """The last layer reads W x + b; the others are as ever."""
  model, variables = tiny.build(narrow())

  @jax.jit
  def run(variables):
    params = variables["params"]
    captured = model.apply(
      variables,
      tiny.batch(),
      capture=("hidden",),
      mutable=("intermediates",),
    )[1]["intermediates"]["stack"]["hidden"]
    inside = params["stack"]["layers_2"]
    project = inside["projection"]
    x = captured[1] @ project["kernel"] + project["bias"].reshape(1, 1, -1)
    layer = model.stack.layers[2].layer.clone(parent=None)
    expected = layer.apply({"params": inside["layer"]}, x, tiny.context())
    return captured[2], expected

  found, expected = run(variables)
  assert found.shape[-1] == 16
  np.testing.assert_allclose(tiny.real(found), tiny.real(expected), atol=1e-5)


def test_the_first_layer_may_be_wider_than_the_embeddings():
  spec = tiny.model_spec(layers=dict(layer=tiny.layer() | dict(width=48)))
  shapes = recipe.shapes(assembly.build(spec))
  kernel = shapes["stack"]["layers_0"]["projection"]["kernel"]
  assert kernel.shape == (32, 48)


def test_flops_count_each_layer_at_its_width():
  task = lambda length: Task(
    "a", {"inputs": jax.ShapeDtypeStruct((1, length), jnp.int32)}, None, 1
  )
  grown = {}
  for width in (16, 32):
    spec = narrow() | dict(layers=narrow()["layers"])
    spec["layers"]["slim"]["width"] = width
    shapes = recipe.shapes(assembly.build(spec))
    once, twice = (
      recipe.flops_per_step(spec, shapes, task(n)) for n in (64, 128)
    )
    grown[width] = twice - 2 * once  # of scores alone: 64 * 64 * 2 more
  assert grown[16] / grown[32] == pytest.approx((32 + 32 + 16) / (3 * 32))


@pytest.mark.parametrize("stack", ["scan", "shared"])
def test_loops_refuse_unlike_widths(stack):
  with pytest.raises(errors.UserError, match=f"stack '{stack}' runs layers in"):
    assembly.build(narrow() | dict(stack=dict(kind=stack)))


def test_a_width_is_a_number():
  with pytest.raises(errors.UserError, match="slim.width is 'wide'"):
    assembly.build(narrow(width="wide"))


def test_score_biases_need_as_many_heads_in_every_layer():
  fewer = narrow(mixer=dict(kind="attention", heads=2))
  with pytest.raises(errors.UserError, match="alibi.*layers.slim.*has 2"):
    assembly.build(fewer | dict(positions=dict(kind="alibi")))


def test_no_file_holds_them():
  with pytest.raises(interop.NotExportable, match="layers.slim.width is 16"):
    description.describe(narrow())
