"""Notes on rare words: read, averaged, kept from gradients, left behind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.models import assembly, note_taking, two_tower
from tests import tiny

WORDS = 6
SPANS = np.array(
  [[[2, 1, 3], [5, 7, 8], [0, 0, 0]], [[2, 0, 1], [4, 8, 11], [0, 0, 0]]],
  np.int32,
)


def batch(spans=SPANS):
  made = tiny.batch()
  ids = np.zeros(tiny.SEGMENTS.shape, np.int32)
  for row, found in enumerate(spans):
    for note, start, end in found:
      ids[row, start:end] = note
  return made | dict(note_ids=ids, note_spans=spans)


def without(made):
  return {k: v for k, v in made.items() if not k.startswith("note_")}


def spec(**notes):
  return tiny.model_spec(
    kind="note_taking_encoder",
    positions=dict(kind="learned", max_length=16),
    input_norm=True,
    heads=dict(masked_lm=dict(kind="masked_lm")),
    notes=dict(words=WORDS, reach=2) | notes,
  )


@functools.cache
def variables():
  return tiny.build(spec())[1]


@functools.cache
def run(train=False, **notes):
  """A compiled model of these notes."""
  model = assembly.build(spec(**notes))
  return jax.jit(functools.partial(model.apply, train=train))


def plain():
  encoder, params = note_taking.NoteTakingEncoder.exported(
    spec(), variables()["params"]
  )
  return encoder, {"params": params}


def test_means_are_those_of_the_window_inside_the_document():
  random = np.random.default_rng(0)
  hidden = random.normal(size=(2, tiny.LENGTH, 3)).astype(np.float32)
  for reach in (0, 2, 40):
    found = note_taking.means(
      jnp.asarray(hidden), SPANS, jnp.asarray(tiny.SEGMENTS), reach
    )
    for row in range(2):
      for k, (note, start, end) in enumerate(SPANS[row]):
        if not note:
          continue
        inside = [
          hidden[row, j]
          for j in range(max(start - reach, 0), min(end + reach, 16))
          if tiny.SEGMENTS[row, j] == tiny.SEGMENTS[row, start]
        ]
        np.testing.assert_allclose(
          found[row, k], np.mean(inside, 0), rtol=1e-5, atol=1e-6
        )


def test_the_papers_denominator_holds_inside_a_document():
  ones = jnp.ones((1, 16), jnp.int32)
  hidden = jnp.arange(16.0)[None, :, None]
  start, end, reach = 6, 9, 4
  found = note_taking.means(hidden, jnp.array([[[1, start, end]]]), ones, reach)
  total = sum(range(start - reach, end + reach))
  assert float(found[0, 0, 0]) == total / (2 * reach + end - start)


def test_the_running_average():
  random = np.random.default_rng(1)
  table = random.normal(size=(WORDS, 3)).astype(np.float32)
  found = random.normal(size=(2, 3, 3)).astype(np.float32)
  ids = SPANS[..., 0]
  step = functools.partial(note_taking.noted, jnp.asarray(table), ids)
  new, uses = step(found, 1.0)
  # Note 2 occurs in both rows; 4 and 5 once.
  np.testing.assert_allclose(new[1], (found[0, 0] + found[1, 0]) / 2, rtol=1e-6)
  np.testing.assert_array_equal(new[4], found[0, 1])
  np.testing.assert_array_equal(uses, [0, 2, 0, 1, 1, 0])
  for untouched in (0, 2, 5):
    np.testing.assert_array_equal(new[untouched], table[untouched])
  np.testing.assert_array_equal(step(found, 0.0)[0], table)


def test_constant_states_are_learned_at_the_rate_of_the_formula():
  start = jnp.full((WORDS, 3), 2.0)
  found = jnp.full((2, 3, 3), 7.0)
  table, rate = start, 0.25
  for _ in range(5):
    table, _ = note_taking.noted(table, SPANS[..., 0], found, rate)
  left = (1 - rate) ** 5
  np.testing.assert_allclose(table[1], 7.0 * (1 - left) + 2.0 * left, rtol=1e-6)
  np.testing.assert_array_equal(table[0], start[0])


def test_without_notes_it_is_the_encoder_bit_by_bit():
  encoder, params = plain()
  expected = jax.jit(assembly.build(encoder).apply)(params, without(batch()))
  no_share = run(share=0.0)(variables(), batch())
  no_words = run()(variables(), batch(np.zeros_like(SPANS)))
  no_keys = run()({"params": params["params"]}, without(batch()))
  for found in (no_share, no_words, no_keys):
    assert found.keys() == expected.keys()
    for name in expected:
      np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
  some = run()(variables(), batch())
  assert not np.allclose(some["hidden"], expected["hidden"], atol=1e-2)


def test_rows_of_rare_words_are_mixed_and_their_gradient_shared():
  share = 0.3
  model = assembly.build(spec(share=share))

  def rows(params, table, keep):
    notes = {"table": table, "uses": variables()["notes"]["uses"]}
    made = batch() if keep else without(batch())
    return model.apply(
      {"params": params, "notes": notes},
      {k: jnp.asarray(v) for k, v in made.items()},
      tiny.context(),
      method="rows",
    )

  params, table = variables()["params"], variables()["notes"]["table"]
  rare = batch()["note_ids"][..., None] > 0
  x = rows(params, table, False)
  note = table[np.maximum(batch()["note_ids"] - 1, 0)]
  np.testing.assert_allclose(
    rows(params, table, True),
    np.where(rare, (1 - share) * x + share * note, x),
    rtol=1e-6,
    atol=1e-6,
  )
  weight = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))

  def loss(params, table, keep, weight):
    return jnp.sum(rows(params, table, keep) * weight)

  grad = jax.grad(loss, argnums=(0, 1))
  mixed, of_notes = grad(params, table, True, weight)
  scaled, _ = grad(params, table, False, jnp.where(rare, 1 - share, 1) * weight)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    mixed,
    scaled,
  )
  assert not np.any(of_notes)


def test_a_training_step_takes_notes_from_its_states_and_evaluation_none():
  found = run(train=True, rate=1.0)(variables(), batch())
  notes = found["updates"]["notes"]
  expected = note_taking.means(
    found["hidden"], SPANS, jnp.asarray(tiny.SEGMENTS), 2
  )
  np.testing.assert_allclose(notes["table"][4], expected[0, 1], rtol=1e-5)
  np.testing.assert_array_equal(notes["uses"], [0, 2, 0, 1, 1, 0])
  before = variables()["notes"]["table"]
  np.testing.assert_array_equal(notes["table"][0], before[0])
  assert "updates" not in run()(variables(), batch())


def test_fresh_notes_are_as_wide_as_fresh_tables():
  model = assembly.build(spec(words=2000))
  made = jax.jit(model.init)(jax.random.key(0), tiny.batch())["notes"]
  table = jax.tree.leaves(made["table"])[0]
  assert table.shape == (2000, tiny.WIDTH)
  assert float(jnp.std(table)) == pytest.approx(0.02, rel=0.02)


def towers():
  made = dict(kind="note_taking_encoder", notes=dict(words=WORDS))
  narrow = dict(kind="factorized", table_width=tiny.WIDTH)
  judge = dict(replaced_token=dict(kind="replaced_token"))
  return dict(
    kind="two_tower",
    vocab_size=tiny.VOCAB,
    towers=dict(
      generator=spec() | made | dict(width=16, embeddings=narrow),
      discriminator=spec() | made | dict(heads=judge),
    ),
  )


def test_two_towers_read_one_dictionary_which_the_discriminator_fills():
  model = assembly.build(towers())
  assert model.updates and [*model.features] == ["note_ids", "note_spans"]
  held = tiny.fill(tiny.shapes(model, batch()))
  assert held["notes"].keys() == {"discriminator"}
  apply = jax.jit(model.apply, static_argnames=("tower", "train"))
  first = apply(held, batch(), tower="generator", train=True)
  assert "updates" not in first
  blank = jax.tree.map(jnp.zeros_like, held["notes"])
  second = apply({**held, "notes": blank}, batch(), tower="generator")
  assert not np.allclose(first["masked_lm"], second["masked_lm"], atol=1e-3)
  judged = apply(held, batch(), tower="discriminator", train=True)
  new = judged["updates"]["notes"]
  assert new.keys() == {"discriminator"}
  np.testing.assert_array_equal(
    new["discriminator"]["uses"], [0, 2, 0, 1, 1, 0]
  )
  kept, _ = two_tower.TwoTower.exported(towers(), held["params"])
  assert kept["kind"] == "encoder" and "notes" not in kept


@pytest.mark.parametrize(
  "notes, told",
  [
    (dict(lamda=1), "no key 'lamda'"),
    (dict(share=1.5), "notes.share is 1.5"),
    (dict(words=0), "notes.words is 0"),
    (dict(reach=2.5), "notes.reach is 2.5"),
  ],
)
def test_mistakes_are_told(notes, told):
  with pytest.raises(UserError, match=told):
    assembly.build(spec(**notes))


def test_states_of_another_width_than_the_notes_are_told():
  narrow = dict(kind="factorized", table_width=8)
  model = assembly.build(spec() | dict(embeddings=narrow))
  with pytest.raises(UserError, match="8, but the states .* are 32 wide"):
    jax.eval_shape(
      functools.partial(model.apply, train=True),
      tiny.fill(tiny.shapes(model, batch())),
      batch(),
    )
