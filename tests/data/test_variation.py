"""Variation sets: found, made, mixed in, and presented in order."""

import collections
import difflib
import json

import numpy as np
import pytest

from jaxlm import errors
from jaxlm.commands import variation_sets as command
from jaxlm.data import datasets
from jaxlm.data.variation import VariationSet, _mixing, file, variations
from jaxlm.data.variation._english import RULES, apply
from jaxlm.data.variation._matching import Match, words
from jaxlm.data.variation.natural import Natural, windows
from tests.data import real

# Gold conversations of the ACQDIV study (test_get_variation_sets.py of
# github.com/acqdiv/variation-sets), as their windows show them; "q" and "r"
# stand for utterances that match nothing.
GOLD = {
  "first": ["q", "d e f", "d g h", "r", "e g h"],
  "second": ["a b x", "x c d", "d x e", "f x g"],
}
# (conversation, method) -> {(window, least words): matches}, their counts.
COUNTS = {
  ("first", "anchor"): {
    (2, 1): 1,
    (2, 2): 0,
    (3, 1): 2,
    (3, 2): 1,
    (3, 3): 0,
    (4, 1): 1,
    (4, 2): 0,
  },
  ("second", "anchor"): {
    (2, 1): 3,
    (2, 2): 1,
    (2, 3): 0,
    (3, 1): 2,
    (3, 2): 1,
    (4, 1): 1,
    (4, 2): 0,
  },
  ("first", "incremental"): {(2, 1): 1, (3, 1): 2, (3, 2): 0, (4, 1): 2},
  ("second", "incremental"): {
    (2, 1): 3,
    (2, 2): 1,
    (3, 1): 4,
    (3, 2): 2,
    (3, 3): 0,
    (4, 1): 3,
    (4, 2): 1,
  },
}


@pytest.mark.parametrize("talk, method", COUNTS)
def test_windows_are_counted_as_the_study_counts_them(talk, method):
  split = [line.split() for line in GOLD[talk]]
  for (size, least), count in COUNTS[talk, method].items():
    match = Match("strict", least)
    assert windows(split, size, match, method) == count, (size, least)


def test_alike_is_difflibs_ratio():
  rng = np.random.default_rng(0)
  letters = np.array(list("ab c"))
  for _ in range(300):
    a, b = ("".join(rng.choice(letters, 6)).strip() for _ in "ab")
    if not a.split() or not b.split():
      continue
    a, b = " ".join(a.split()), " ".join(b.split())
    ratio = difflib.SequenceMatcher(lambda c: c == " ", a, b).ratio()
    assert Match("fuzzy")(a.split(), b.split()) == (ratio >= 0.55), (a, b)


def test_sets_are_runs_of_variants():
  talk = [
    "you want the ball ?",
    "do you want the ball ?",
    "the ball .",
    "look out .",
    "the ball .",
    "it's a bear .",
  ]
  assert Natural("strict").find(talk) == [[0, 1, 2]]
  # The third has only two of the first's words.
  assert Natural("strict", "anchor", least=3).find(talk) == [[0, 1]]
  assert Natural("strict", window=2).find(talk[1:]) == [[0, 1]]
  apart = ["red ball .", "hm .", "ball ."]
  assert Natural("strict", window=2).find(apart) == []
  assert Natural("strict", window=3).find(apart) == [[0, 2]]


def test_a_repetition_varies_nothing():
  assert Natural("strict").find(["oink .", "oink .", "oink ."]) == []
  talk = ["oink .", "oink .", "oink pig ."]
  assert Natural("strict").find(talk) == [[0, 2]]


def test_incremental_follows_the_last_and_anchor_the_first():
  talk = ["a b", "b c", "c d", "d a"]
  assert Natural("strict", "incremental").find(talk) == [[0, 1, 2, 3]]
  assert Natural("strict", "anchor", window=4).find(talk) == [[0, 1, 3]]


def test_rules_make_sets_of_variants():
  rules = variations.build(dict(kind="rules", size=4))
  talk = [["you want the big ball ?", "put it in the box .", "that's a cat ."]]
  made = list(rules.sets(talk, np.random.default_rng(0)))
  assert len(made) == 3
  assert {each.places for each in made} == {((0, i),) for i in range(3)}
  for each in made:
    (place,) = each.places
    assert len(each.utterances) == 4 == len(set(each.utterances))
    assert each.utterances[0] == talk[0][place[1]]
    assert file.fault(each.utterances) == ""


@pytest.mark.parametrize(
  "rule, before, after",
  [
    ("ask", "put it there .", "{can you,could you,will you,would you,want to}"),
    ("ask", "that's a cat .", "is that a cat ?"),
    ("tell", "can you see it ?", "see it ."),
    ("tell", "is that a cat ?", "that's a cat ."),
    ("tell", "do you want to go ?", "go ."),
    ("to_the_front", "put it there .", "there put it ."),
    ("to_the_front", "we put it in the box .", "in the box we put it ."),
    ("shorten", "that's a big ball !", "a big ball ."),
    ("leave_out_before", "oh look here .", "look here ."),
    ("leave_out_behind", "look here honey .", "look here ."),
    ("exchange", "a bunny .", "{another,one,rabbit}"),
    ("ask", "what is it ?", ""),
    ("tell", "no .", ""),
  ],
)
def test_each_rule(rule, before, after):
  rule = next(r for r in RULES if r.__name__ == rule)
  made = apply(rule, before, np.random.default_rng(0))
  if after.startswith("{"):
    assert made != before and any(a in made for a in after[1:-1].split(","))
  else:
    assert made == after


def corpus(transcripts=6, lines=60):
  rng = np.random.default_rng(1)
  nouns = ["ball", "cat", "bear", "book", "car", "box"]
  return [
    [
      f"you want the {rng.choice(nouns)} {t} {i} ."
      if i % 3
      else f"{rng.choice(nouns)} {t} {i} ."
      for i in range(lines)
    ]
    for t in range(transcripts)
  ]


def mixed(share, run=0, seed=0, talk=None, **more):
  talk = talk or corpus()
  rng = np.random.default_rng(seed)
  sets = variations.build(dict(kind="rules")).sets(talk, rng)
  more = dict(words=1000) | more
  return _mixing.mix(talk, sets, share=share, run=run, rng=rng, **more)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_budget_and_share_are_kept_within_a_set(share):
  made = mixed(share)
  longest = max(sum(len(u.split()) for u in unit) for unit in made.units)
  assert 1000 <= made.facts["words"] < 1000 + longest
  assert abs(made.facts["share_of_words"] - share) <= longest / 1000
  assert made.facts["words"] == sum(
    len(line.split()) for line in made.utterances()
  )


def test_what_a_set_begins_with_is_not_said_again():
  lines = mixed(0.5).utterances()
  originals = {line for talk in corpus() for line in talk}
  counts = collections.Counter(lines)
  assert max(counts[line] for line in originals) == 1


def test_natural_neighbours_are_broken():
  talk = corpus(transcripts=8)
  where = {
    u: (t, i) for t, lines in enumerate(talk) for i, u in enumerate(lines)
  }
  made = mixed(0.0, talk=talk, words=0)
  assert made.facts["words"] == sum(len(u.split()) for u in where)
  places = [where[line] for line in made.utterances()]
  assert sorted(places) == sorted(where.values())
  close = sum(map(_mixing._close, places, places[1:]))
  assert close <= 1  # the very last has nobody to change with


def test_the_control_holds_the_same_in_another_order():
  made = mixed(0.5)
  together = made.utterances()
  shuffled = made.utterances(np.random.default_rng(0))
  assert together != shuffled
  assert collections.Counter(together) == collections.Counter(shuffled)


def test_runs_have_one_length():
  sets = [VariationSet(["a b", "a c", "a d"]), VariationSet(["x y", "x z"])]
  talk = [[f"w{t} v{i}" for i in range(40)] for t in range(3)]
  made = _mixing.mix(
    talk, sets, share=0.05, words=120, run=2, rng=np.random.default_rng(0)
  )
  assert {len(unit) for unit in made.units} == {2}
  assert ["a b", "a c"] in made.units  # cut
  long = _mixing.mix(
    talk, sets[1:], share=0.02, words=120, run=3, rng=np.random.default_rng(0)
  )
  (filled,) = [u for u in long.units if u[0] == "x y"]
  assert filled[1] == "x z" and filled[2].startswith("w")


def test_too_few_words_are_told():
  few = [VariationSet(["a b", "a c"])]
  talk = [["w v"] * 10]
  ask = lambda **more: _mixing.mix(
    talk, few, **dict(share=0.5, words=20, rng=np.random.default_rng(0)) | more
  )
  with pytest.raises(errors.UserError, match="Lower data.share to 0.200"):
    ask()
  with pytest.raises(errors.UserError, match="Lower data.words"):
    ask(share=0.0, words=100)


@pytest.mark.parametrize(
  "row, told",
  [
    ({"utterance": []}, "no field 'utterances'.*Did you mean 'utterance'"),
    ({"utterances": "a b"}, "should be a list of strings"),
    ({"utterances": ["a b"]}, "has 1 utterances"),
    ({"utterances": ["a b", "A b ."]}, "varies nothing"),
    ({"utterances": ["a b", "..."]}, "without words"),
    ({"utterances": ["cat dog", "xyz uvw"]}, "like no earlier"),
  ],
)
def test_files_of_sets_are_checked(tmp_path, row, told):
  path = tmp_path / "sets.jsonl"
  path.write_text(json.dumps({"utterances": ["a b", "a c"]}) + "\n")
  assert len(file.read(path)) == 1
  with path.open("a") as out:
    out.write(json.dumps(row) + "\n")
  with pytest.raises(errors.UserError, match=f"line 2.*{told}"):
    file.read(path)


def test_found_sets_are_written_and_read_again(tmp_path, capsys):
  talk = tmp_path / "talk.txt"
  talk.write_text("you want it ?\ndo you want it ?\nit's a bear .\n\nhello .\n")
  out = tmp_path / "sets.jsonl"
  command.main(
    [f"--files={talk}", f"--out={out}", "--sets=dict(kind='natural')"]
  )
  told = json.loads(capsys.readouterr().out)
  assert told["transcripts"] == 2 and told["utterances"] == 4
  assert told["sets"] == 1 and told["sizes"] == {"2": 1}
  assert told["share_of_words"] == 9 / 15  # the marks are words here
  (found,) = file.read(out)
  assert found.utterances == ["you want it ?", "do you want it ?"]
  with pytest.raises(errors.UserError, match="No variation is of kind"):
    command.main([f"--files={talk}", "--sets=dict(kind='natrual')"])
  with pytest.raises(errors.UserError, match="expected a part"):
    command.main([f"--files={talk}", "--sets=natural"])


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
  path = tmp_path_factory.mktemp("speech") / "speech.txt"
  path.write_text("\n\n".join("\n".join(lines) for lines in corpus()))
  return path


def data_of(speech, **more):
  more = dict(files=str(speech), validation_share=0.2, length=32) | more
  return datasets.build(dict(kind="variation_sets", **more))


def prepared(speech, tmp_path, **more):
  return data_of(speech, **more).prepare(
    tokenizer=dict(kind="byte_bpe", vocab_size=300, template="gpt2"),
    workdir=tmp_path,
    batch_size=4,
    seed=0,
    report=lambda line: None,
  )


def texts(made, batch):
  rows = [
    row[row_segments > 0]
    for row, row_segments in zip(
      batch["inputs"], batch.get("segments", batch["inputs"] * 0 + 1)
    )
  ]
  return [made.tokenizer.decode(row).strip() for row in rows]


def test_adjacent_batches_hold_what_follows(speech, tmp_path):
  lanes = dict(kind="lanes", steps=4)
  made = prepared(
    speech, tmp_path, arrangement=dict(kind="separate"), order=lanes
  )
  lines = data_of(speech, arrangement=dict(kind="separate"), order=lanes).mixed[
    0
  ]
  units = np.reshape(lines, (-1, 4))
  for turn in (0, 2):
    for j in range(4):
      batch = made.train.batch_at(0, 4 * turn + j)
      found = texts(made, batch)
      assert found == units[4 * turn : 4 * turn + 4, j].tolist()
  # The first token is predicted from the end of text, as in scoring.
  assert (batch["inputs"][:, 0] == made.tokenizer.eos_id).all()
  told = made.facts["variation_sets"]
  assert abs(told["share_of_words"] - 0.4) < 0.05


def test_rows_of_a_context_are_the_text_in_its_order(speech, tmp_path):
  made = prepared(speech, tmp_path)
  lines = data_of(speech).mixed[0]
  eos = [made.tokenizer.eos_id]
  stream = np.concatenate(
    [ids + eos for ids in made.tokenizer.encode_batch(lines)]
  )
  batch = made.train.batch_at(0, 3)["inputs"]
  width = 33  # a row of the cache holds one token more
  for row in range(4):
    first = (3 * 4 + row) * width
    np.testing.assert_array_equal(batch[row], stream[first : first + 32])
  # Another seed of the run, the same rows.
  np.testing.assert_array_equal(batch, made.train.batch_at(9, 3)["inputs"])


def test_mistakes_in_the_config_are_told(speech):
  with pytest.raises(errors.UserError, match="data.share is 40"):
    data_of(speech, share=40)
  with pytest.raises(errors.UserError, match="data.presentation.*'together'"):
    data_of(speech, presentation="togehter")
  with pytest.raises(errors.UserError, match="kind='separate'"):
    data_of(speech, order=dict(kind="lanes", steps=4))
  with pytest.raises(errors.UserError, match="'fuzzy'"):
    data_of(speech, sets=dict(kind="natural", match="fuzy"))


def test_other_sets_are_another_cache(speech, tmp_path):
  made = prepared(speech, tmp_path)
  with pytest.raises(errors.UserError, match="mixing.share was 0.4"):
    data_of(speech, share=0.2).build(
      tokenizer=made.tokenizer, workdir=tmp_path, seed=0
    )


def test_real_speech_holds_sets(shared, tmp_path):
  path = real.unpack(shared, tmp_path, "text/childes/valid.txt.gz")
  talk = [
    [line for line in text.split("\n") if line.strip()]
    for text in path.read_text().split("\n\n")
  ][:8]
  split = sum(map(len, talk))
  made = list(Natural().sets(talk, np.random.default_rng(0)))
  share = sum(len(s.utterances) for s in made) / split
  assert 0.1 < share < 0.5
  for each in made:
    assert file.fault(each.utterances) == ""
    said = [talk[t][i] for t, i in each.places]
    assert said == list(each.utterances)
    assert words(said[0])
