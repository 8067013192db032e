"""A model moved to another vocabulary."""

import json

import jax
import numpy as np
import pytest

from jaxlm import configuration, errors, interop, loading, recipe, run
from jaxlm.data import shared_pieces, tokenizers
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.interop import layout
from jaxlm.models import assembly
from tests import tiny

ENGLISH = [
  "the cat sat on the mat and the dog ran after the cat",
  "playing and walking and talking in the garden all day",
  "a bird sings in the old tree beside the little house",
]
NEPALI = ["नेपाली भाषामा लेखिएको पुस्तक", "काठमाडौं नेपालको राजधानी हो"]


def train(kind, lines=ENGLISH, size=150, **more):
  more = dict(vocab_size=size) | more
  return tokenizers.train(dict(kind=kind, **more), [*lines] * 6)


def permuted(tokenizer: Tokenizer, seed=0) -> Tokenizer:
  """The same pieces under other ids."""
  description = json.loads(tokenizer.text)
  vocabulary = description["model"]["vocab"]
  ids = np.random.default_rng(seed).permutation(len(vocabulary))
  new = {piece: int(ids[i]) for piece, i in vocabulary.items()}
  description["model"]["vocab"] = new
  for token in description["added_tokens"]:
    token["id"] = new[token["content"]]
  post = description["post_processor"].get("special_tokens", {})
  for name, token in post.items():
    token["ids"] = [new[name]]
  return Tokenizer(json.dumps(description), tokenizer.specials)


HEADS = {
  "masked_lm": dict(masked_lm=dict(kind="masked_lm")),
  "masked_lm_untied": dict(masked_lm=dict(kind="masked_lm", untied=8)),
  "causal_lm": dict(causal_lm=dict(kind="causal_lm")),
  "causal_lm_untied": dict(causal_lm=dict(kind="causal_lm", tied=False)),
}


def spec_of(heads, vocab, **more):
  return tiny.model_spec(
    vocab_size=vocab,
    heads=heads,
    initializer=dict(std=0.02),
    **more,
  )


def logits(spec, params, ids):
  model = assembly.build(spec)
  rows = np.asarray(ids, np.int32)[None]
  batch = dict(inputs=rows, segments=np.ones_like(rows))
  batch["positions"] = np.arange(rows.shape[1], dtype=np.int32)[None]
  out = model.apply({"params": params}, batch, train=False)
  return np.asarray(out[next(iter(spec["heads"]))][0])


def moved(heads, old, new, **more):
  spec = spec_of(heads, old.vocab_size, **more)
  model, variables = tiny.build(spec)
  del model
  params = tiny.host(variables["params"])
  return spec, params, *interop.transplant(params, spec, old, new)


@pytest.mark.parametrize("name", HEADS)
def test_other_ids_are_the_same_model(name):
  """Function kept: logits of the same text, in the other order of ids."""
  old = train("wordpiece")
  new = permuted(old)
  assert new.pieces != old.pieces
  padding = dict(kind="token", pad_to_multiple=64)
  spec, params, made, made_spec, facts = moved(
    HEADS[name], old, new, embeddings=padding
  )
  assert facts["copied"] == facts["rows"] == old.vocab_size
  text = "the cat talking garden"
  before = logits(spec, params, old.encode(text))[:, : old.vocab_size]
  after = logits(made_spec, made, new.encode(text))[:, : new.vocab_size]
  same = [new.token_to_id(piece) for piece in old.pieces]
  np.testing.assert_array_equal(before, after[:, same])


def test_the_same_vocabulary_changes_nothing():
  old = train("byte_bpe", size=320, template="gpt2")
  _, params, made, _, facts = moved(HEADS["causal_lm"], old, old)
  jax.tree.map(np.testing.assert_array_equal, params, made)
  assert facts["drawn"] == facts["averaged"] == 0


def test_new_pieces_are_the_mean_of_the_old_ones():
  """The formula of Fast Vocabulary Transfer, by hand."""
  old = train("byte_bpe", size=275, template="gpt2")
  new = train("byte_bpe", size=330, template="gpt2")
  _, params, made, _, facts = moved(HEADS["causal_lm"], old, new)
  before, after = (
    np.asarray(p["embeddings"]["table"], np.float64) for p in (params, made)
  )
  held = set(old.pieces)
  fresh = [i for i, piece in enumerate(new.pieces) if piece not in held]
  assert len(fresh) == facts["averaged"] > 20
  for index in fresh:
    ids = old.encode(new.decode([index]))
    assert len(ids) > 1
    np.testing.assert_allclose(after[index], before[ids].mean(0), rtol=1e-6)
  for index, piece in enumerate(new.pieces):
    if piece in held:
      np.testing.assert_array_equal(
        after[index], before[old.token_to_id(piece)]
      )


def test_output_biases_move_with_their_rows():
  old, new = train("wordpiece", size=90), train("wordpiece", size=190)
  _, params, made, _, facts = moved(HEADS["masked_lm_untied"], old, new)
  assert facts["parameters"] == [
    "embeddings/table",
    "heads_masked_lm/output_bias",
    "heads_masked_lm/output_table",
  ]
  for path in ("output_bias", "output_table"):
    before = params["heads_masked_lm"][path]
    after = made["heads_masked_lm"][path]
    assert after.shape[0] == new.vocab_size
    index = new.token_to_id("the")
    np.testing.assert_array_equal(after[index], before[old.token_to_id("the")])


def test_pieces_of_unlike_vocabularies_meet():
  old = train("wordpiece", size=200)
  new = train("byte_bpe", size=400, template="gpt2")
  found = dict(zip(new.pieces, shared_pieces.spell(new, old)))
  assert found["Ġthe"].ids == (old.token_to_id("the"),)
  assert found["Ġthe"].shared
  assert found["<pad>"].ids == (old.pad_id,)
  assert found["<|endoftext|>"].ids == (old.eos_id,)
  # Inside a word: "##g", not "g".
  assert found["g"].ids == (old.token_to_id("##g"),)
  back = dict(zip(old.pieces, shared_pieces.spell(old, new)))
  assert back["the"].ids == (new.token_to_id("Ġthe"),)
  assert back["##g"].ids == (new.token_to_id("g"),)
  assert back["[MASK]"].ids == ()


def test_continuing_pieces_are_cut_inside_a_word():
  old, new = train("wordpiece", size=70), train("wordpiece", size=220)
  found = dict(zip(new.pieces, shared_pieces.spell(new, old)))
  known = {p for p in old.pieces if len(p) == 1}  # others cannot be spelled
  fresh = [
    (piece, s.ids)
    for piece, s in found.items()
    if piece.startswith("##") and len(piece) > 3 and not s.shared
    if known.issuperset(piece[2:])
  ]
  assert fresh
  for piece, ids in fresh:
    pieces = [old.pieces[i] for i in ids]
    assert all(p.startswith("##") for p in pieces), (piece, pieces)
    assert "".join(p[2:] for p in pieces) == piece[2:]


def test_unigram_pieces_and_bytes_meet_byte_level_ones():
  old = train("unigram", size=330, template="t5")
  new = train("byte_bpe", size=300, template="gpt2")
  found = dict(zip(new.pieces, shared_pieces.spell(new, old)))
  assert found["<|endoftext|>"].ids == (old.eos_id,)
  letter = found["à"]  # the byte 0xE0, the first of Devanagari
  assert letter.ids == (old.token_to_id("<0xE0>"),) and letter.shared


def test_what_cannot_be_spelled_is_drawn_around_the_mean():
  old = train("wordpiece", size=200)
  new = train("wordpiece", NEPALI, size=120)
  spec = spec_of(HEADS["masked_lm"], old.vocab_size)
  rng = np.random.default_rng(0)
  _, variables = tiny.build(spec)
  params = tiny.host(variables["params"])
  table = 3.0 + 0.5 * rng.standard_normal(params["embeddings"]["table"].shape)
  params["embeddings"]["table"] = table.astype(np.float32)
  made, _, facts = interop.transplant(params, spec, old, new)
  rows = made["embeddings"]["table"]
  drawn = [i for i, s in enumerate(shared_pieces.spell(new, old)) if not s.ids]
  assert facts["drawn"] == len(drawn) > 50
  assert abs(rows[drawn].mean() - 3.0) < 4 * 0.5 / np.sqrt(rows[drawn].size)
  assert abs(rows[drawn].std() - 0.5) < 0.05
  again, _, _ = interop.transplant(params, spec, old, new)
  np.testing.assert_array_equal(again["embeddings"]["table"], rows)
  bias = made["heads_masked_lm"]["output_bias"]
  expected = params["heads_masked_lm"]["output_bias"].mean()
  np.testing.assert_allclose(bias[drawn], expected, rtol=1e-5)


def test_hashed_rows_behind_the_words_stay():
  old, new = train("wordpiece", size=90), train("wordpiece", size=190)
  spec = spec_of(
    {"masked_lm": dict(kind="masked_lm", untied=tiny.WIDTH)},
    old.vocab_size,
    embeddings=dict(
      kind="subword_vectors",
      vector_width=16,
      buckets=40,
      vocabulary=tuple(old.pieces),
    ),
  )
  _, variables = tiny.build(spec)
  params = tiny.host(variables["params"])
  made, made_spec, _ = interop.transplant(params, spec, old, new)
  before, after = (p["embeddings"]["table"] for p in (params, made))
  np.testing.assert_array_equal(
    after[new.vocab_size :], before[old.vocab_size :]
  )
  assert made_spec["embeddings"]["vocabulary"] == tuple(new.pieces)


@pytest.mark.parametrize("name", ["electra", "t5", "bert", "eelbert", "albert"])
def test_every_kind_of_model_moves(name):
  """Towers, factors and outputs of their own have the new shapes."""
  old, new = train("wordpiece", size=90), train("wordpiece", size=190)
  spec = tiny.config_model(name)
  facts = dict(vocab_size=old.vocab_size, pieces=old.pieces)
  spec.pop("vocab_size", None)
  spec = recipe.model_spec(dict(model=spec), facts)
  wanted = layout.shapes(spec)
  rng = np.random.default_rng(0)
  draw = {k: rng.standard_normal(v).astype("f") for k, v in wanted.items()}
  made, made_spec, told = interop.transplant(
    layout.tree(draw, spec), spec, old, new
  )
  found = layout.flat(made, made_spec)
  shapes = layout.shapes(made_spec)
  assert {k: v.shape for k, v in found.items()} == shapes
  assert set(told["parameters"]) == {k for k in found if shapes[k] != wanted[k]}
  for path in found.keys() - set(told["parameters"]):
    np.testing.assert_array_equal(found[path], draw[path])


def test_a_model_without_rows_keeps_its_vocabulary():
  old = train("wordpiece")
  spec = spec_of({}, old.vocab_size, embeddings=dict(kind="character_cnn"))
  spec["embeddings"]["vocabulary"] = tuple(old.pieces)
  with pytest.raises(errors.UserError, match="no table of tokens"):
    interop.transplant({}, spec, old, old)


def config_of(folder, vocab, **more):
  made = configuration.complete(configuration.load("gpt2:tiny"))
  made |= dict(batch_size=8, steps=1) | more
  text = str(folder / "text.txt")
  made["data"] = made["data"] | dict(
    files=text, validation_files=text, length=16
  )
  made["tokenizer"] = dict(kind="byte_bpe", vocab_size=vocab, template="gpt2")
  made["log"] = dict(made["log"], progress=False, tensorboard=False)
  made["checkpoint"] = dict(every=0, keep=1)
  made["evaluation"] = dict(every=0, batches=2)
  return made


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "text.txt").write_text("\n\n".join(ENGLISH * 30))
  return tmp_path


def test_a_run_starts_from_another_vocabulary(folder):
  """`init_from` beside a new tokenizer moves the rows, and says so."""
  old = train("byte_bpe", size=300, template="gpt2")
  config = config_of(folder, 330)
  spec = {**config["model"], "vocab_size": old.vocab_size}
  _, variables = tiny.build(spec)
  run.save(folder / "old", spec, variables["params"], old)
  lines = []
  config["init_from"] = str(folder / "old")
  made = run.prepare(config, folder / "new", report=lines.append)
  facts = made.plan.facts["transplanted"]
  assert any("300 rows copied, 30 the mean of" in line for line in lines)
  assert facts["rows"] == made.data.tokenizer.vocab_size == 330
  table = np.asarray(made.plan.params["embeddings"]["table"])
  before = np.asarray(variables["params"]["embeddings"]["table"])
  assert table.shape[0] == 330
  index = made.data.tokenizer.token_to_id("Ġthe")
  np.testing.assert_array_equal(table[index], before[old.token_to_id("Ġthe")])


@pytest.mark.slow
def test_what_was_learned_is_kept(folder):
  quiet = dict(report=lambda line: None, export=False)
  run.train(config_of(folder, 300, steps=40), folder / "old", **quiet)
  start = dict(init_from=str(folder / "old"))
  moved = run.train(config_of(folder, 330, **start), folder / "new", **quiet)
  fresh = run.train(config_of(folder, 330), folder / "fresh", **quiet)
  assert moved.metrics["loss"] < fresh.metrics["loss"] - 0.5
  card = json.loads((folder / "new" / "run.json").read_text())
  assert card["facts"]["transplanted"]["averaged"] == 30
  held = loading.load(folder / "new")
  assert held.spec["vocab_size"] == held.tokenizer.vocab_size == 330
