"""3ML: the encoder on visible tokens alone (sheet encode-visible-only)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import paths, sharding
from jaxlm.errors import UserError
from jaxlm.layers.mixers import mixers
from jaxlm.models import _places, assembly
from jaxlm.models.visible import VisibleEncoder
from tests import tiny

LENGTH = tiny.LENGTH
# Left out: 1, 4, 8, 12 and 0, 4, 7, 8; the first document of row 1 loses its
# first token. Padding is empty slots.
VISIBLE = np.array(
  [[0, 2, 3, 5, 6, 7, 9, 10, 11], [1, 2, 3, 5, 6, 9, 10, 11, LENGTH]], np.int32
)
CROSS = pytest.param("tiny_cross", marks=pytest.mark.slow)
variants = pytest.mark.parametrize("variant", ["tiny", CROSS])
HEADS = dict(
  masked_lm=dict(kind="masked_lm"), classify=dict(kind="classify", classes=3)
)


def spec(variant="tiny", positions=None, **layer):
  """One layer each: unrolled, programs compile twice as fast as with two."""
  made = tiny.config_model("three_ml", variant) | dict(heads=HEADS)
  for tower in made["towers"].values():
    tower |= dict(stack=dict(kind="sequential"), depth=1)
    tower["layers"]["layer"] |= layer
  if positions:
    made["towers"]["encoder"]["positions"] = positions
  return made


def batch(visible=VISIBLE):
  made = tiny.batch()
  weights = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
  places = np.array([[1, 4, 0], [4, 7, 0]], np.int32)
  made |= dict(predict_positions=places, predict_weights=weights)
  return made if visible is None else made | dict(visible_positions=visible)


@functools.cache
def built(variant="tiny"):
  return tiny.build(spec(variant))


@functools.cache
def compiled(variant="tiny"):
  return jax.jit(built(variant)[0].apply)


def run(made, variant="tiny"):
  return tiny.host(compiled(variant)(built(variant)[1], made))


def close(found, expected, atol=2e-5):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=atol, err_msg=name)


def test_gather_and_scatter_are_inverse():
  x = np.random.default_rng(0).normal(size=(2, LENGTH, 3)).astype(np.float32)
  onto = np.full_like(x, 7.0)
  back = np.asarray(_places.scatter(_places.gather(x, VISIBLE), VISIBLE, onto))
  for row, places in enumerate(VISIBLE):
    seen = np.isin(np.arange(LENGTH), places)
    np.testing.assert_array_equal(back[row, seen], x[row, seen])
    assert (back[row, ~seen] == 7.0).all()
  assert (np.asarray(_places.gather(x, VISIBLE))[1, -1] == 0).all()


def test_with_all_tokens_visible_it_is_one_deeper_encoder():
  """Closed form: encoder and decoder layers, one after the other."""
  made, params = spec(), built()[1]["params"]
  plain = made["towers"]["encoder"] | dict(
    embeddings=made["embeddings"], heads=HEADS, depth=2
  )
  body = dict(params["encoder"], embeddings=params["embeddings"])
  last = params["decoder"]["stack"]["layers_0"]
  body["stack"] = {**params["encoder"]["stack"], "layers_1": last}
  body |= {k: v for k, v in params.items() if k.startswith("heads_")}
  whole = assembly.build(plain, vocab_size=tiny.VOCAB)
  expected = jax.jit(whole.apply)({"params": body}, batch(None))
  found = run(batch(None))["masked_lm"]
  np.testing.assert_allclose(found, expected["masked_lm"], atol=2e-5)


@pytest.mark.slow
@variants
def test_every_place_named_visible_is_no_place_named(variant):
  every = np.tile(np.arange(LENGTH, dtype=np.int32), (2, 1))
  close(run(batch(every), variant), run(batch(None), variant))


@variants
def test_the_order_of_slots_is_of_no_account(variant):
  order = np.random.default_rng(0).permutation(VISIBLE.shape[1])
  close(run(batch(VISIBLE[:, order]), variant), run(batch(), variant))


@variants
def test_tokens_that_are_left_out_are_never_read(variant):
  made = batch()
  expected = run(made, variant)
  for row, places in enumerate(VISIBLE):
    gone = ~np.isin(np.arange(LENGTH), places)
    made["inputs"][row, gone] = 5
  close(run(made, variant), expected, atol=0.0)
  # And the others are.
  made["inputs"][:, 2] = 63 - made["inputs"][:, 2]
  found = run(made, variant)["masked_lm"]
  assert np.abs(found - expected["masked_lm"]).max() > 1e-2


POSITIONS = {
  "learned": dict(kind="learned", max_length=16),
  "rotary": dict(kind="rotary"),
  "alibi": dict(kind="alibi"),
  "relative_buckets": dict(kind="relative_buckets", buckets=8, max_distance=12),
  "tupe": dict(kind="tupe", max_length=16, buckets=8),
}
ABLE = [
  kind
  for kind in mixers.kinds()
  if getattr(mixers.entry(kind).build, "any_order", False)
  and kind != "cross_attention"
]


@pytest.mark.slow
@pytest.mark.parametrize(
  "position, mixer",
  [(position, "attention") for position in POSITIONS]
  + [("learned", mixer) for mixer in ABLE if mixer != "attention"],
)
def test_states_are_those_of_whole_rows_that_hide_the_others(position, mixer):
  """The oracle: the encoder at full length, with the others as padding."""
  part = {"kind": mixer, **mixers.entry(mixer).example}
  made = spec(positions=POSITIONS[position], mixer=part)
  made["towers"]["decoder"]["positions"] = dict(kind="none")
  model, variables = tiny.build(made)
  found = jax.jit(model.apply)(variables, batch())["hidden"]
  seen = np.stack([np.isin(np.arange(LENGTH), row) for row in VISIBLE])
  hiding = batch(None)
  hiding["segments"] = np.where(seen, hiding["segments"], 0)
  expected = jax.jit(model.apply)(variables, hiding)["hidden"]
  real = seen & (tiny.SEGMENTS > 0)
  np.testing.assert_allclose(found[real], expected[real], atol=2e-5)


@variants
def test_packed_documents_are_as_in_rows_of_their_own(variant):
  """Of row 0: its second document, alone in a row."""
  together = run(batch(), variant)["masked_lm"]
  start, end = 6, 13
  alone = {k: np.zeros_like(v) for k, v in batch().items()}
  for key in ("inputs", "types"):
    alone[key][0, : end - start] = batch()[key][0, start:end]
  alone["segments"][0, : end - start] = 1
  alone["positions"][0, : end - start] = np.arange(end - start)
  inside = VISIBLE[0][(VISIBLE[0] >= start) & (VISIBLE[0] < end)] - start
  alone["visible_positions"][:] = LENGTH
  alone["visible_positions"][0, : len(inside)] = inside
  packed = batch()
  for made, first in ((packed, start), (alone, 0)):
    made["predict_positions"][0] = np.array([2, 6, 0]) + first
    made["predict_weights"][0] = [1, 1, 0]
  together = run(packed, variant)["masked_lm"][0, :2]
  np.testing.assert_allclose(
    run(alone, variant)["masked_lm"][0, :2], together, atol=2e-5
  )


@pytest.mark.slow
def test_empty_slots_of_predictions_change_no_other():
  made = batch()
  expected = run(made, "tiny_cross")["masked_lm"]
  made["predict_positions"][:, 2] = 9
  found = run(made, "tiny_cross")["masked_lm"]
  np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=1e-6)
  made["predict_weights"][:, 2] = 1
  found = run(made, "tiny_cross")["masked_lm"]
  assert np.abs(found[:, :2] - expected[:, :2]).max() > 1e-3


def gradients(model, variables, made):
  def loss(variables):
    out = model.apply(variables, made)
    logits = jax.nn.log_softmax(out["masked_lm"])[..., 0]
    return -jnp.sum(logits * made["predict_weights"]) + jnp.sum(
      jnp.sin(out["classify"])
    )

  return jax.value_and_grad(loss)(variables)


def on_meshes(model, variables, made, gradients):
  """Gradients on 8 devices are those on one, and none is 0."""
  shapes = tiny.shapes(model, made)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  placed = jax.device_put(variables, sharding.state_shardings(shapes, mesh))
  four = {k: np.concatenate([v, v]) for k, v in made.items()}
  step = jax.jit(functools.partial(gradients, model))
  loss, found = step(placed, sharding.shard_batch(four, mesh))
  expected_loss, expected = step(variables, four)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  expected = paths.flatten(expected)
  for path, leaf in paths.flatten(found).items():
    np.testing.assert_allclose(
      leaf, expected[path], atol=1e-4, rtol=1e-3, err_msg=path
    )
    assert np.abs(leaf).max() > 0 or path.endswith("key/bias"), path


@pytest.mark.slow
@variants
def test_gradients_reach_every_parameter_on_any_mesh(variant):
  on_meshes(*built(variant), batch(), gradients)


def test_what_is_exported_is_the_encoder_without_masked_lm():
  made, params = VisibleEncoder.exported(spec(), built()[1]["params"])
  assert (made["kind"], list(made["heads"])) == ("encoder", ["classify"])
  assert sorted(params) == sorted(
    ["embeddings", "heads_classify", "input_norm", "positions", "stack"]
  )
  model = assembly.build(made, vocab_size=tiny.VOCAB)
  found = jax.jit(model.apply)({"params": params}, batch(None))
  expected = run(batch(None))
  np.testing.assert_allclose(found["hidden"], expected["hidden"], atol=2e-5)
  np.testing.assert_allclose(found["classify"], expected["classify"], atol=2e-5)


def decoder_of(width):
  made = spec()
  made["towers"]["decoder"]["width"] = width
  return made


@pytest.mark.slow
def test_a_narrower_decoder_has_a_map_in_front():
  model, variables = tiny.build(decoder_of(16))
  kernel = variables["params"]["narrowing"]["kernel"]
  assert kernel.shape == (tiny.WIDTH, 16)
  out = jax.eval_shape(model.apply, variables, batch())
  assert out["masked_lm"].shape == (2, 3, tiny.VOCAB)
  assert out["hidden"].shape == (2, LENGTH, tiny.WIDTH)


def with_tower(name, **changes):
  made = spec()
  made["towers"][name] |= changes
  return made


@pytest.mark.parametrize(
  "made, reason",
  [
    (spec(mixer=dict(kind="fourier")), "Fourier works by places"),
    (
      spec(mixer=dict(kind="attention", heads=4, window=4)),
      "has a window, which counts places",
    ),
    (
      spec(block=dict(kind="post_norm_convolution")),
      "reads the tokens to both sides",
    ),
    (
      spec(
        positions=dict(kind="disentangled"),
        mixer=dict(kind="disentangled_attention", heads=4),
      ),
      "count places",
    ),
    (spec("tiny_cross", dict(kind="none")), "leave 'cross' out"),
    (spec() | dict(towers={}), "it needs encoder and decoder"),
    (spec() | dict(sharing="all"), "has no key"),
    (spec() | dict(width=16), "they are the same"),
    (with_tower("decoder", kind="decoder"), "it is 'encoder'"),
    (with_tower("decoder", heads=HEADS), "belong to the whole model"),
  ],
)
def test_what_cannot_run_on_chosen_tokens_is_refused(made, reason):
  if made["towers"] and "disentangled" in str(made):
    made["towers"]["decoder"] |= dict(positions=dict(kind="disentangled"))
  with pytest.raises(UserError, match=reason):
    assembly.build(made, vocab_size=tiny.VOCAB)
