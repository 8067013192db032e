"""Vectors of sentences against rows one by one, and their scores."""

import json

import jax
import numpy as np
import pytest
import scipy.stats

from jaxlm import loading, run
from jaxlm.__main__ import main
from jaxlm.errors import UserError
from jaxlm.evaluation import embed, geometry, similarity
from jaxlm.models import assembly
from tests import tiny
from tests.evaluation import toys

TEXTS = ["the cat sat", "a dog", "the dogs ran, the cats sat.", "b", "cat"]


def spec_of(stack="scan", vocab_size=64, **changes):
  return tiny.model_spec(
    vocab_size=vocab_size,
    positions=dict(kind="learned", max_length=16),
    depth=3,
    stack=dict(kind=stack),
    final_norm=True,
    **changes,
  )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  """A workdir, as the commands read it."""
  tokenizer = toys.wordpiece()
  spec = spec_of(
    vocab_size=tokenizer.vocab_size,
    heads=dict(embed=dict(kind="embed", pooling="mean", projection="kept")),
  )
  model = assembly.build(spec)
  batch = {"inputs": np.ones((1, 4), np.int32)}
  params = tiny.fill(tiny.shapes(model, batch))["params"]
  folder = tmp_path_factory.mktemp("embed") / "run"
  run.save(folder, spec, params, tokenizer)
  return loading.load(folder)


@pytest.fixture(scope="module")
def forward(loaded):
  """text -> states of each layer [tokens, width], and its vector."""
  capture = dict(capture=frozenset(["hidden"]), mutable=["intermediates"])
  run = jax.jit(lambda v, batch: loaded.model.apply(v, batch, **capture))

  def states(text):
    ids = loaded.tokenizer.bracket(loaded.tokenizer.encode(text))[0]
    real = np.arange(16)[None] < len(ids)
    inputs = np.zeros((1, 16), np.int32)
    inputs[0, : len(ids)] = ids
    batch = dict(inputs=inputs, segments=real.astype(np.int32))
    out, kept = run(loaded.variables, batch)
    (loop,) = kept["intermediates"]["stack"]["loop"]["hidden"]
    layers = [*np.asarray(loop)[:-1, 0], np.asarray(out["hidden"])[0]]
    return [x[: len(ids)] for x in layers], np.asarray(out["embed"])[0, 0]

  return states


def test_poolings_are_those_of_rows_one_by_one(loaded, forward):
  wanted = {name: [] for name in ("", *embed.POOLINGS)}
  for text in TEXTS:
    layers, head = forward(text)
    wanted[""].append(head)
    wanted["cls"].append(layers[-1][0])
    wanted["mean"].append(layers[-1].mean(0))
    wanted["first_last"].append((layers[0] + layers[-1]).mean(0) / 2)
    wanted["top2"].append((layers[-2] + layers[-1]).mean(0) / 2)
  for pooling, rows in wanted.items():
    found = embed.embed(loaded, TEXTS, pooling=pooling, rows=2)
    assert found.cut == 0 and found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, rows, atol=2e-5)


def test_states_of_tokens_are_those_of_rows_one_by_one(loaded, forward):
  found = embed.tokens(loaded, TEXTS, rows=2)
  for text, states in zip(TEXTS, found):
    np.testing.assert_allclose(states, forward(text)[0][-1][1:-1], atol=2e-5)


def test_long_texts_are_cut_to_the_positions_or_shorter(loaded):
  long = " ".join(["cat"] * 40)
  found = embed.embed(loaded, [long, "dog"])
  same = embed.embed(loaded, [" ".join(["cat"] * 14)])
  assert found.cut == 1
  np.testing.assert_allclose(found.vectors[:1], same.vectors, atol=1e-5)
  assert embed.embed(loaded, TEXTS, length=4).cut == 2
  with pytest.raises(UserError, match="length is 2; it leaves no room"):
    embed.embed(loaded, TEXTS, length=2)


def test_a_decoder_is_read_at_its_last_token():
  decoder = toys.causal()
  spec = dict(heads={}, kind="decoder")
  ids = decoder.tokenizer.bracket(decoder.tokenizer.encode("the cat"))[0]
  batch = {"inputs": np.array([ids], np.int32)}
  wanted = decoder.model.apply(decoder.variables, batch)["hidden"][0, -1]

  class Loaded:
    source, tokenizer = "toy", decoder.tokenizer
    model, variables = decoder.model, decoder.variables

  Loaded.spec = spec | dict(
    width=16,
    vocab_size=decoder.tokenizer.vocab_size,
    embeddings=dict(kind="token"),
    positions=dict(kind="learned", max_length=32),
    final_norm=True,
    layers=dict(
      layer=dict(
        block=dict(kind="pre_norm"),
        mixer=dict(kind="attention", heads=2, causal=True),
        feedforward=dict(kind="mlp", hidden=32),
      )
    ),
  )
  found = embed.embed(Loaded, ["the cat"], pooling="cls").vectors[0]
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  with pytest.raises(UserError, match="without a head of kind 'embed'.*mean"):
    embed.embed(Loaded, ["the cat"])


def test_the_command_writes_an_array_once(loaded, tmp_path, capsys):
  file, out = tmp_path / "a.txt", tmp_path / "a.npy"
  file.write_text("\n".join([*TEXTS[:2], "", *TEXTS[2:]]), encoding="utf-8")
  command = ["embed", f"--checkpoint={loaded.source}", f"--files={file}"]
  assert main([*command, f"--out={out}"]) == 0
  assert f"{out}: 5 vectors of 32." in capsys.readouterr().out
  np.testing.assert_array_equal(
    np.load(out), embed.embed(loaded, TEXTS).vectors
  )
  for name, words in (
    (out, "a.npy exists; remove it"),
    (tmp_path / "a.txt", "its name ends in .npy"),
  ):
    assert main([*command, f"--out={name}"]) == 2
    assert words in capsys.readouterr().err
  more = [f"--out={tmp_path / 'b.npy'}", "--pooling=maen"]
  assert main([*command, *more]) == 2
  assert "no pooling 'maen'. Did you mean 'mean'" in capsys.readouterr().err


PAIRS = [
  ("the cat sat", "the cats sat", 5.0),
  ("a dog", "the cat sat", 0.5),
  ("a dog", "the dog", 4.0),
  ("b", "cat", 1.0),
]


def write(folder, pairs=PAIRS):
  lines = ["score\tsentence1\tsentence2"]
  lines += [f"{score}\t{a}\t{b}" for a, b, score in pairs]
  file = folder / "sts.tsv"
  file.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return file


def test_similarity_ranks_cosines_of_all_pairs(loaded, tmp_path, capsys):
  file, out = write(tmp_path), tmp_path / "cosines.jsonl"
  command = ["evaluate", f"--checkpoint={loaded.source}", f"--sts={file}"]
  assert main([*command, "--pooling=mean", f"--out={out}"]) == 0
  found = json.loads(capsys.readouterr().out)
  sides = [
    embed.embed(loaded, [p[i] for p in PAIRS], pooling="mean").vectors
    for i in (0, 1)
  ]
  unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in sides]
  cosines = np.sum(unit[0] * unit[1], axis=1)
  scores = [p[2] for p in PAIRS]
  rank = scipy.stats.spearmanr(scores, cosines).statistic
  assert found["spearman"] == pytest.approx(rank, abs=1e-9)
  assert (found["count"], found["positives"]) == (4, 2)
  apart = [2 - 2 * cosines[0], 2 - 2 * cosines[2]]
  assert found["alignment"] == pytest.approx(np.mean(apart), abs=1e-5)
  distinct = embed.embed(
    loaded, sorted({t for p in PAIRS for t in p[:2]}), pooling="mean"
  )
  assert found["mean_cosine"] == pytest.approx(
    geometry.mean_cosine(distinct.vectors), abs=1e-6
  )
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  np.testing.assert_allclose([x["cosine"] for x in lines], cosines, atol=1e-6)


@pytest.mark.parametrize("name", similarity.MAPS)
def test_maps_spread_vectors(name, loaded, tmp_path):
  file = write(tmp_path)
  plain = similarity.evaluate(loaded, file)
  found = similarity.evaluate(loaded, file, map=name)
  assert found["uniformity"] < plain["uniformity"]


def test_mistakes_are_told(loaded, tmp_path, capsys):
  file = write(tmp_path, [("a", "b", "high")])
  run = lambda *flags: main(
    ["evaluate", f"--checkpoint={loaded.source}", f"--sts={file}", *flags]
  )
  for flags, words in (
    ((), "line 2: the label of a regression should be a number"),
    (("--columns=sentence1,sentence2",), "expected three"),
    (("--columns=a,b,score",), "has no column 'a'"),
    (("--pairs=x.jsonl",), "needs one of"),
  ):
    assert run(*flags) == 2
    assert words in capsys.readouterr().err
  file = write(tmp_path)
  assert run("--map=whitenning") == 2
  assert "no map of vectors 'whitenning'" in capsys.readouterr().err
