"""Facts of EELBERT's hashed embeddings."""

import hashlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import interop, loading, paths, recipe, run
from jaxlm.errors import UserError
from jaxlm.evaluation import fill
from jaxlm.layers.embeddings import _spelling, embeddings
from jaxlm.models import assembly
from tests import tiny
from tests.interop import folders
from tests.test_recipes import shapes

WORDS = ("run", "a", "runs", "quartz", "abc", "cab", "##né", "", "[MASK]")


def part(words=WORDS, width=6, **fields):
  return embeddings.build(
    {"kind": "ngram_hash", "vocabulary": words, **fields},
    width=width,
    vocab_size=len(words),
  )


def lookup(part, tokens):
  """Rows of tokens [n], in one compiled program."""
  rows = jax.jit(lambda ids: part.apply({}, ids, method="lookup"))
  return np.asarray(rows(jnp.asarray(tokens)[None]))[0]


def rows(**fields):
  """Hashed rows of WORDS, float32."""
  return lookup(part(**fields), range(len(WORDS)))


def slow(word: str, widths, factors):
  """The hash as it is written down, in Python's integers."""
  text, parts, start = word.encode(), [], 0
  for order, width in enumerate(widths, 1):
    means = np.zeros(width)
    grams = [text[i : i + order] for i in range(len(text) - order + 1)]
    for gram in grams:
      signature = 0
      for byte in gram:
        signature = (signature * 257 + byte) % (2**31 - 1)
      for j, factor in enumerate(factors[start : start + width]):
        value = signature * factor % 1_000_003
        value -= 1_000_003 * (value > 1_000_003 / 2)
        means[j] += value / (1_000_003 / 2) / len(grams)
    start += width
    parts.append(means)
  return np.concatenate(parts)


def test_goldens():
  """Sheet eelbert: seeds of 42, signatures and rows."""
  assert _spelling.multipliers(42, 4) == [
    659044154,
    1445363156,
    811154611,
    1857973141,
  ]
  sign = jax.jit(
    lambda text: [_spelling.signatures(text, n) for n in (1, 2, 3)]
  )
  found = [made.tolist() for made in sign(jnp.asarray(list(b"run")))]
  assert found == [[114, 117, 110], [29415, 30179], [7559765]]
  run_row, a = rows()[:2]
  np.testing.assert_allclose(
    run_row,
    [-0.411791, -0.485477, -0.131475, -0.245379, 0.170455, 0.504338],
    atol=6e-7,
  )
  np.testing.assert_allclose(a, [0.182313, 0, 0, 0, 0, 0], atol=6e-7)


def test_words_of_one_stem_are_near():
  word, _, runs, quartz = rows(width=768)[:4]
  cosine = lambda x: x @ word / np.linalg.norm(x) / np.linalg.norm(word)
  assert cosine(runs) > 0.7 and abs(cosine(quartz)) < 0.25


@pytest.mark.parametrize(
  "fields, widths",
  [
    (dict(width=128), (21, 42, 65)),
    (dict(width=128, seed=7, split="equal"), (42, 42, 44)),
    (dict(width=50, ngrams=5), (3, 6, 10, 13, 18)),
  ],
)
def test_rows_are_those_of_unbounded_integers(fields, widths):
  factors = _spelling.multipliers(fields.get("seed", 42), sum(widths))
  expected = [slow(word, widths, factors) for word in WORDS]
  found = rows(**fields)
  np.testing.assert_allclose(found, expected, atol=2e-7)
  assert np.abs(found).max() <= 1.0
  assert 0.2 < found[3].std() < 0.5


def test_pyramids_of_the_base_width():
  assert part(width=768)._widths() == [128, 256, 384]


def test_anagrams_share_the_columns_of_single_letters():
  table = rows(width=12)
  np.testing.assert_array_equal(table[4, :2], table[5, :2])
  assert np.abs(table[4, 2:] - table[5, 2:]).min() > 0.01


def test_rows_do_not_depend_on_the_process():
  code = (
    "import hashlib\nfrom tests.layers import test_ngram_hash as t\n"
    "print(hashlib.sha256(t.rows(width=64).tobytes()).hexdigest())"
  )
  told = subprocess.run(
    [sys.executable, "-c", code],
    env={**os.environ, "PYTHONHASHSEED": "12345"},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  mine = hashlib.sha256(rows(width=64).tobytes()).hexdigest()
  assert told.split()[-1] == mine


def test_tokens_beyond_the_vocabulary_are_spelled_as_their_ids():
  named = part(("x", "y", "2"))
  unnamed = part(("x", "y", "z")).clone(vocabulary=("x", "y"))
  np.testing.assert_array_equal(lookup(unnamed, [2]), lookup(named, [2]))


@pytest.mark.parametrize(
  "variant, body",
  [
    ("base", 86_041_344),
    ("mini", 3_356_928),
    ("paper_tiny", 479_104),
    ("uno", 281_728),
  ],
)
def test_published_parameters(variant, body):
  """Without the head of pre-training, with BERT's pooler."""
  params = shapes("eelbert", variant)
  width = params["positions"]["table"].shape[1]
  held = {k: v for k, v in params.items() if not k.startswith("heads_")}
  assert paths.count(held) + width * (width + 1) == body
  head = params["heads_masked_lm"]
  assert head["output_table"].shape == (30_522, width)
  assert head["output_bias"].shape == (30_522,)


def encoder(kind, **fields):
  return tiny.model_spec(embeddings=dict(kind=kind, **fields))


def test_bert_with_the_same_table_computes_the_same():
  """Nothing of the embeddings is a parameter but the sentence types."""
  hashed, params = tiny.build(encoder("ngram_hash", types=2))
  assert set(params["params"]["embeddings"]) == {"type_table"}
  plain, with_table = tiny.build(encoder("token", types=2))
  bare = hashed.embeddings.clone(types=0, parent=None)
  with_table["params"] = dict(params["params"])
  with_table["params"]["embeddings"] = {
    **params["params"]["embeddings"],
    "table": jnp.asarray(lookup(bare, range(tiny.VOCAB))),
  }
  hidden = lambda model, params: jax.jit(model.apply)(params, tiny.batch())[
    "hidden"
  ]
  np.testing.assert_allclose(
    hidden(hashed, params), hidden(plain, with_table), atol=1e-5
  )


def test_the_recipe_spells_the_tokens():
  config = {"model": encoder("ngram_hash")}
  pieces = [f"piece{i}" for i in range(tiny.VOCAB)]
  facts = {"vocab_size": tiny.VOCAB, "pieces": pieces}
  spec = recipe.model_spec(config, facts)
  assert spec["embeddings"]["vocabulary"] == tuple(pieces)
  assert recipe.model_spec({"model": {}}, facts, spec) == spec
  plain = recipe.model_spec({"model": encoder("token")}, facts)
  assert "vocabulary" not in plain["embeddings"]


@pytest.mark.parametrize(
  "fields, words",
  [
    (dict(split="pyramids"), "Did you mean 'pyramid'"),
    (dict(ngrams=4), "splits 6 columns into ngrams=4"),
    (dict(ngrams=0), "splits 6 columns into ngrams=0"),
    (dict(vocabulary=("a",) * 10), "has 10 tokens, but vocab_size is 9"),
  ],
)
def test_hashes_that_cannot_be_are_told(fields, words):
  made = part().clone(**fields)
  with pytest.raises(UserError, match=words):
    made.apply({}, jnp.zeros((1, 1), jnp.int32), method="lookup")


@pytest.mark.parametrize(
  "head, words",
  [
    (dict(kind="masked_lm"), "'untied' to the model's width"),
    (dict(kind="causal_lm"), "no table that an output could be tied to"),
  ],
)
def test_heads_that_tie_the_output_are_refused(head, words):
  spec = encoder("ngram_hash") | dict(heads={head["kind"]: head})
  model = assembly.build(spec, vocab_size=tiny.VOCAB)
  with pytest.raises(UserError, match=words):
    tiny.shapes(model, tiny.batch())


def test_no_class_of_transformers_holds_it(tmp_path):
  model, params = tiny.build(encoder("ngram_hash"))
  with pytest.raises(interop.NotExportable, match="keeps no token table"):
    interop.export_folder(
      tmp_path / "out", model=encoder("ngram_hash"), params=params["params"]
    )


def test_a_saved_model_is_loaded_with_its_spelling(tmp_path):
  """The texts of the tokens lie in model.json; `jaxlm fill` needs no more."""
  tokenizer = folders.wordpiece()
  config = encoder("ngram_hash") | dict(
    vocab_size=tokenizer.vocab_size,
    heads=dict(masked_lm=dict(kind="masked_lm", untied=tiny.WIDTH)),
  )
  facts = {"vocab_size": tokenizer.vocab_size, "pieces": tokenizer.pieces}
  spec = recipe.model_spec({"model": config}, facts)
  params = folders.params(spec)
  run.save(tmp_path / "out", spec, params, tokenizer)
  loaded = loading.load(tmp_path / "out")
  assert loaded.spec == spec
  assert loaded.model.embeddings.vocabulary == tuple(tokenizer.pieces)
  ids = tokenizer.bracket(tokenizer.encode("a [MASK] c", specials=True))[0]
  batch = {"inputs": jnp.array([ids])}
  apply = jax.jit(assembly.build(spec).apply)
  logits = apply({"params": params}, batch)["masked_lm"][0]
  expected = jax.nn.softmax(logits[ids.index(tokenizer.mask_id)])
  found = fill.fill(loaded, ["a [MASK] c"], top=3)[0][0]
  assert [c.id for c in found] == np.argsort(-expected)[:3].tolist()
  np.testing.assert_allclose(
    [c.probability for c in found], -np.sort(-expected)[:3], rtol=1e-4
  )
