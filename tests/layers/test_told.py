"""Facts of the data reach the parts that ask for them, in any model."""

import pytest

from jaxlm import flops, recipe, registry
from jaxlm.layers import told
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.heads import heads

PIECES = ["[PAD]", "run", "ning"]
FACTS = dict(
  vocab_size=3, pieces=PIECES, classes=("a", "b", "c"), vectors=dict(width=7)
)


def filled(facts=FACTS, **model):
  return recipe.model_spec({"model": dict(kind="encoder", **model)}, facts)


@pytest.mark.parametrize(
  "kind, known",
  [
    ("classify", dict(classes=3)),
    ("tag", dict(classes=3)),
    ("continuous", dict(vector_width=7)),
    ("regress", dict()),  # one score, however many labels
    ("masked_lm", dict()),
  ],
)
def test_heads_are_told_what_they_ask_for(kind, known):
  made = filled(heads=dict(out=dict(kind=kind)))
  assert made["heads"]["out"] == dict(kind=kind, **known)
  blind = filled(dict(vocab_size=3), heads=dict(out=dict(kind=kind)))
  assert blind["heads"]["out"] == dict(kind=kind)


def test_embeddings_are_told_what_they_ask_for():
  read = tuple(PIECES)
  for kind in embeddings.kinds():
    made = filled(embeddings=dict(kind=kind))["embeddings"]
    asks = "vocabulary" in embeddings.fields(kind)
    assert made.get("vocabulary") == (read if asks else None), kind
  made = filled(embeddings=dict(kind="given_vectors"))["embeddings"]
  assert made == dict(kind="given_vectors", vector_width=7)


def test_what_a_spec_sets_stays():
  set_ = dict(
    embeddings=dict(kind="ngram_hash", vocabulary=("x",)),
    heads=dict(
      tag=dict(kind="tag", classes=9),
      continuous=dict(kind="continuous", vector_width=5),
    ),
  )
  made = filled(**set_)
  assert {key: made[key] for key in set_} == set_


def test_towers_and_heads_on_an_encoder_are_told_too():
  tower = dict(
    kind="encoder",
    embeddings=dict(kind="ngram_hash"),
    heads=dict(classify=dict(kind="classify")),
  )
  made = filled(towers=dict(one=tower), encoder_heads=dict(t=dict(kind="tag")))
  assert made["towers"]["one"]["embeddings"]["vocabulary"] == tuple(PIECES)
  assert made["towers"]["one"]["heads"]["classify"]["classes"] == 3
  assert made["encoder_heads"]["t"]["classes"] == 3


def test_a_new_head_asks_without_an_edit_elsewhere(monkeypatch):
  class Graded(heads.entry("regress").build):
    told = staticmethod(told.classes)

  heads.kinds()
  entry = registry.Entry("graded", Graded, None, {})
  monkeypatch.setitem(heads._entries, "graded", entry)
  made = filled(heads=dict(out=dict(kind="graded")))
  assert made["heads"]["out"]["classes"] == 3


def test_heads_say_whether_their_output_is_the_token_table():
  """FLOPs count the table once, where a head reads it."""
  ties = lambda **head: flops._tied(head)
  assert ties(kind="masked_lm") and ties(kind="span_boundary")
  for kind in ("causal_lm", "seq2seq_lm", "bidirectional_lm"):
    assert ties(kind=kind) and not ties(kind=kind, tied=False)
  named = ("masked_lm", "span_boundary", "causal_lm", "seq2seq_lm")
  for kind in {*heads.kinds()} - {*named, "bidirectional_lm"}:
    assert not ties(kind=kind), kind


def test_objectives_that_keep_notes_are_found():
  assert {"masked_lm", "masked_lm_next_sentence"} < {*recipe._keeping()}
  assert "causal_lm" not in recipe._keeping()
