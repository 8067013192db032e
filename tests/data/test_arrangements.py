"""Arrangements: every token where it belongs, nothing lost, nothing mixed."""

import itertools

import numpy as np
import pytest

from jaxlm.data.arrangements import Frame, Pieces, arrangements, fill, pairs
from jaxlm.errors import UserError
from tests.data import fakes

NEXT, RANDOM = 0, 1  # labels of BERT's pairs


@pytest.fixture
def numbers():
  return fakes.NumberTokenizer()


CLS, SEP = 2, 3


def corpus(lengths, sentences=None):
  """Tokens 5, 6, 7 ... so that a token tells its place."""
  documents = np.cumsum([0, *(sentences or [1] * len(lengths))])
  pieces = Pieces(np.asarray(lengths, np.int32), documents.astype(np.int64))
  return pieces, (np.arange(sum(lengths)) + 5).astype(np.uint16)


def build(spec, pieces, ids, width, tokenizer):
  plan = arrangements.build(spec).plan(pieces, Frame.of(tokenizer), width)
  return plan, fill(plan, ids, width, 0, 0, plan.rows)


def segments_of(rows):
  """(row, segment) -> its tokens."""
  out = {}
  for r, (tokens, segments) in enumerate(zip(rows["tokens"], rows["segments"])):
    for s in np.unique(segments[segments > 0]):
      out[r, s] = tokens[segments == s].tolist()
  return out


def test_frames(numbers):
  assert Frame.of(numbers) == Frame(CLS, SEP, -1, SEP, 1, SEP)

  class Roberta:
    special_ids = {"eos": 9}

    def bracket(self, a, b):
      ids = [2, *a, 3, 3, *b, 3]
      return ids, [0] * len(ids)

  assert Frame.of(Roberta()) == Frame(2, 3, 3, 3, 0, 9)


def test_documents_golden(numbers):
  pieces, ids = corpus([3, 9, 1])
  _, rows = build({"kind": "documents"}, pieces, ids, 8, numbers)
  # 9 tokens do not fit 6 places: 6 + 3. Rows: [6], [3, 1] and [3].
  assert rows["tokens"].tolist() == [
    [2, 8, 9, 10, 11, 12, 13, 3],
    [2, 5, 6, 7, 3, 2, 17, 3],
    [2, 14, 15, 16, 3, 0, 0, 0],
  ]
  assert rows["segments"].tolist() == [
    [1] * 8,
    [1] * 5 + [2] * 3,
    [1] * 5 + [0] * 3,
  ]


@pytest.mark.parametrize("width", [5, 16, 64])
def test_documents_keep_every_token_once(numbers, width):
  rng = np.random.default_rng(width)
  lengths = rng.integers(1, 40, 300).tolist()
  pieces, ids = corpus(lengths)
  plan, rows = build({"kind": "documents"}, pieces, ids, width, numbers)
  owner = np.repeat(np.arange(300), lengths)
  seen = []
  for tokens in segments_of(rows).values():
    assert tokens[0] == CLS and tokens[-1] == SEP
    body = np.array(tokens[1:-1])
    assert len(set(owner[body - 5])) == 1  # of one document
    assert np.array_equal(body, np.arange(body[0], body[-1] + 1))
    seen.extend(body)
  assert sorted(seen) == ids.tolist()
  assert (rows["tokens"][rows["segments"] == 0] == 0).all()


def test_documents_limit_per_row(numbers):
  pieces, ids = corpus([1] * 10)
  spec = {"kind": "documents", "max_per_row": 2}
  _, rows = build(spec, pieces, ids, 30, numbers)
  assert rows["segments"].max() == 2 and len(rows["tokens"]) == 5


def test_chunks_golden(numbers):
  pieces, ids = corpus([3, 4, 1])
  _, rows = build({"kind": "chunks"}, pieces, ids, 4, numbers)
  assert rows["tokens"].tolist() == [
    [5, 6, 7, SEP],
    [8, 9, 10, 11],
    [SEP, 12, SEP, 0],
  ]
  assert rows["segments"].tolist() == [[1] * 4, [1] * 4, [1, 1, 1, 0]]
  spec = {"kind": "chunks", "cross_document": False}
  _, rows = build(spec, pieces, ids, 4, numbers)
  assert rows["segments"].tolist() == [[1] * 4, [1] * 4, [1, 2, 2, 0]]


@pytest.mark.parametrize("cross_document", [True, False])
@pytest.mark.parametrize("width", [1, 2, 7, 33])
def test_chunks_carry_exactly(numbers, width, cross_document):
  rng = np.random.default_rng(width)
  lengths = rng.integers(1, 30, 100).tolist()
  pieces, ids = corpus(lengths)
  spec = {"kind": "chunks", "cross_document": cross_document}
  _, rows = build(spec, pieces, ids, width, numbers)
  stream, at = [], 0
  for length in lengths:
    stream += [*ids[at : at + length], SEP]
    at += length
  flat = rows["tokens"].reshape(-1)
  assert flat[: len(stream)].tolist() == stream
  assert len(flat) - len(stream) < width
  real = rows["segments"].reshape(-1) > 0
  assert real[: len(stream)].all() and not real[len(stream) :].any()
  if not cross_document:
    document = np.repeat(np.arange(100), np.array(lengths) + 1)
    row = np.arange(len(stream)) // width
    segment = rows["segments"].reshape(-1)[: len(stream)].astype(int)
    inside = np.diff(row) == 0
    assert np.array_equal(np.diff(segment)[inside], np.diff(document)[inside])


def test_chunks_want_an_end(numbers):
  numbers.special_ids = {"cls": 2}
  pieces, ids = corpus([3])
  with pytest.raises(UserError, match="neither EOS nor SEP"):
    build({"kind": "chunks"}, pieces, ids, 4, numbers)


def test_blocks_of_tokens(numbers):
  pieces, ids = corpus([3, 4, 3])
  spec = {"kind": "blocks", "unit": "tokens"}
  _, rows = build(spec, pieces, ids, 8, numbers)
  assert rows["tokens"].tolist() == [
    [2, 5, 6, 7, 8, 9, 10, 3],
    [2, 11, 12, 13, 14, 3, 0, 0],
  ]


def test_blocks_of_sentences_golden(numbers):
  # Two documents of sentences 2, 2 | 1, 2, 9; six places a row.
  pieces, ids = corpus([2, 2, 1, 2, 9], [2, 3])
  _, rows = build({"kind": "blocks"}, pieces, ids, 8, numbers)
  assert rows["tokens"].tolist() == [
    [2, 5, 6, 7, 8, 3, 9, 3],  # a separator between the documents
    [2, 10, 11, 3, 0, 0, 0, 0],  # the next sentence does not fit
    [2, 12, 13, 14, 15, 16, 17, 3],  # too long for any row: cut
    [2, 18, 19, 20, 3, 0, 0, 0],
  ]


def test_blocks_never_cut_a_sentence_that_fits(numbers):
  rng = np.random.default_rng(3)
  sentences = rng.integers(1, 6, 60).tolist()
  lengths = rng.integers(1, 12, sum(sentences)).tolist()
  pieces, ids = corpus(lengths, sentences)
  _, rows = build({"kind": "blocks"}, pieces, ids, 20, numbers)
  body = rows["tokens"][rows["tokens"] >= 5]
  assert np.array_equal(body, ids)  # nothing lost, in order
  row_of = np.full(len(ids) + 5, -1)
  for r, tokens in enumerate(rows["tokens"]):
    row_of[tokens[tokens >= 5]] = r
  ends = np.cumsum(lengths)
  for first, last in zip(ends - lengths, ends):
    assert len(set(row_of[first + 5 : last + 5])) == 1


class Script:
  """A generator that says its lines."""

  def __init__(self, *lines):
    self.lines = list(lines)

  def random(self):
    return self.lines.pop(0)

  def randint(self, low, high):
    value = self.lines.pop(0)
    assert low <= value <= high
    return value


def test_pairs_by_hand():
  # Document 0: sentences of 3, 2, 4 tokens; document 1: 2, 5.
  pieces, _ = corpus([3, 2, 4, 2, 5], [3, 2])
  builder = pairs.Builder(pieces, 8, 0.1, ("next", "random"))
  script = Script(
    0.5,  # not short: the target is 8, so the chunk is 3 + 2 + 4
    1,  # A is the first sentence
    0.9,  # B is the rest, 6 tokens: 9 in all, one too many
    0.2,  # cut at the front of B, the longer
  )
  assert builder.of_document(0, script) == [(0, 3, 4, 5, NEXT)]
  assert not script.lines
  script = Script(
    0.05,  # short ...
    4,  # ... of 4 tokens: the chunk is 3 + 2
    1,  # A is the first sentence
    0.4,  # a random B, 1 token wanted
    0,  # the same document: again
    1,
    4,  # from its second sentence, 5 tokens; 8 in all fit
    # Sentence 1 was not used: 2 + 4 tokens make the next chunk.
    1,
    0.7,
  )
  assert builder.of_document(0, script) == [
    (0, 3, 11, 5, RANDOM),
    (3, 2, 5, 4, NEXT),
  ]
  assert not script.lines


def test_pairs_turned_round_by_hand():
  pieces, _ = corpus([3, 2, 4, 2, 5], [3, 2])
  draws = lambda u: Script(0.5, 1, u, 0.2)
  of = lambda relations, script: pairs.Builder(
    pieces, capacity=8, short_seq_prob=0.1, relations=relations
  ).of_document(0, script)
  turned = (4, 5, 0, 3)  # of (0, 3, 4, 5)
  order = ("next", "previous")
  assert of(order, draws(0.49)) == [(*turned, 1)]
  assert of(order, draws(0.5)) == [(0, 3, 4, 5, 0)]
  three = ("next", "previous", "random")
  assert of(three, draws(0.34)) == [(*turned, 1)]
  assert of(three, draws(0.67)) == [(0, 3, 4, 5, 0)]
  # A sentence alone has no neighbour: B is another document's.
  alone, _ = corpus([3, 2, 5], [1, 2])
  for relations, label in ((order, 1), (three, 2), (("random", "next"), 0)):
    script = Script(0.5, 1, 2)
    builder = pairs.Builder(alone, 8, 0.1, relations)
    assert builder.of_document(0, script) == [(0, 3, 5, 5, label)]


@pytest.mark.parametrize("relations", [pairs.RELATIONS, pairs.RELATIONS[:2]])
def test_pairs_are_what_their_labels_say(relations):
  sentences = [40] * 100
  pieces, _ = corpus([2] * 4000, sentences)
  spec = {"kind": "pairs", "short_seq_prob": 0.0, "relations": relations}
  plan = arrangements.build(spec).plan(pieces, Frame(2, 3, -1, 3, 1, 3), 13)
  a, b = plan.start[::2], plan.start[1::2]
  label, document = plan.label[::2], lambda x: x // 80
  several = plan.length[::2] + plan.length[1::2] == 10
  near = document(a) == document(b)
  found = np.where(near, np.where(b > a, 0, 1), len(relations) - 1)
  np.testing.assert_array_equal(found[several], label[several])
  counts = np.bincount(label[several], minlength=len(relations))
  share, total = 1 / len(relations), counts.sum()
  bound = 4 * np.sqrt(share * (1 - share) * total)
  np.testing.assert_allclose(counts, share * total, atol=bound)


def test_pairs_packed(numbers):
  rng = np.random.default_rng(5)
  sentences = rng.integers(2, 9, 80).tolist()
  lengths = rng.integers(1, 9, sum(sentences)).tolist()
  pieces, ids = corpus(lengths, sentences)
  plan, rows = build({"kind": "pairs"}, pieces, ids, 32, numbers)
  document = np.repeat(np.repeat(np.arange(80), sentences), lengths)
  found = 0
  for r in range(plan.rows):
    tokens, types = rows["tokens"][r], rows["types"][r]
    for slot, label in enumerate(rows["labels"][r]):
      if label < 0:
        assert (rows["labels"][r, slot:] < 0).all()
        break
      found += 1
      at = rows["cls_positions"][r, slot]
      assert tokens[at] == CLS
      whole = rows["segments"][r] == slot + 1
      assert whole[at] and (at == 0 or not whole[at - 1])
      a = tokens[whole & (types == 0)][1:-1]
      b = tokens[whole & (types == 1)][:-1]
      assert (tokens[whole] == SEP).sum() == 2 and tokens[whole][-1] == SEP
      if label == NEXT:
        assert document[b[0] - 5] == document[a[-1] - 5] and b[0] > a[-1]
      else:
        assert document[b[0] - 5] != document[a[0] - 5]
  assert found == (plan.label >= 0).sum() > 80
  again, _ = build({"kind": "pairs"}, pieces, ids, 32, numbers)
  assert np.array_equal(plan.start, again.start)
  other, _ = build({"kind": "pairs", "seed": 1}, pieces, ids, 32, numbers)
  assert not np.array_equal(plan.start, other.start[: len(plan.start)])


def test_pairs_label_rate():
  # Sentences of 2 tokens and a target of 10: every chunk has several, so
  # half of the labels are random, plus the chunks of one sentence at the end.
  pieces, _ = corpus([2] * 4000, [40] * 100)
  spec = {"kind": "pairs", "short_seq_prob": 0.0, "passes": 2}
  plan = arrangements.build(spec).plan(pieces, Frame(2, 3, -1, 3, 1, 3), 13)
  labels = plan.label[plan.label >= 0]
  single = plan.length[::2] == 2  # A of one sentence; an upper bound
  n = len(labels)
  q_max = single.mean()
  rate = labels.mean()
  bound = 4 * np.sqrt(0.25 / n)
  assert 0.5 - bound <= rate <= q_max + (1 - q_max) / 2 + bound


def test_a_stream_is_the_text_and_nothing_else():
  plan = arrangements.build({"kind": "stream"}).plan(
    Pieces(np.array([5, 3, 6], np.int32), np.arange(4)),
    Frame(2, 3, -1, 3, 1, 3),
    4,
  )
  rows = fill(plan, np.arange(5, 19, dtype=np.uint16), 4, 0, 0, plan.rows)
  np.testing.assert_array_equal(rows["tokens"][:3].ravel(), np.arange(5, 17))
  np.testing.assert_array_equal(rows["tokens"][3], [17, 18, 0, 0])
  np.testing.assert_array_equal(rows["segments"][3], [1, 1, 0, 0])
  assert (rows["segments"][:3] == 1).all()


@pytest.mark.parametrize("kind", arrangements.kinds())
def test_fill_in_parts_is_fill_at_once(kind, numbers):
  rng = np.random.default_rng(6)
  sentences = rng.integers(1, 5, 50).tolist()
  lengths = rng.integers(1, 9, sum(sentences)).tolist()
  pieces, ids = corpus(lengths, sentences)
  arrangement = arrangements.build({"kind": kind})
  if not arrangement.sentences:
    sums = np.add.reduceat(pieces.lengths, pieces.documents[:-1])
    pieces = Pieces(sums.astype(np.int32), np.arange(51))
  plan = arrangement.plan(pieces, Frame.of(numbers), 24)
  whole = fill(plan, ids, 24, 0, 0, plan.rows)
  cuts = [0, 1, plan.rows // 2, plan.rows]
  parts = [fill(plan, ids, 24, 0, a, b) for a, b in itertools.pairwise(cuts)]
  for key, value in whole.items():
    assert np.array_equal(value, np.concatenate([p[key] for p in parts]))
  assert whole["tokens"].dtype == ids.dtype


@pytest.mark.parametrize("kind", ["documents", "blocks", "pairs"])
def test_rows_too_short(kind, numbers):
  pieces, ids = corpus([3])
  with pytest.raises(UserError, match="data.length is 2"):
    build({"kind": kind}, pieces, ids, 2, numbers)


def test_bad_fields():
  with pytest.raises(UserError, match="Did you mean 'sentences'"):
    arrangements.build({"kind": "blocks", "unit": "sentence"})
  with pytest.raises(UserError, match="short_seq_prob is 2"):
    arrangements.build({"kind": "pairs", "short_seq_prob": 2})
  with pytest.raises(UserError, match="passes is 0"):
    arrangements.build({"kind": "pairs", "passes": 0})
  with pytest.raises(UserError, match="Did you mean 'previous'"):
    arrangements.build({"kind": "pairs", "relations": ["next", "previos"]})
  with pytest.raises(UserError, match="expected two or three different"):
    arrangements.build({"kind": "pairs", "relations": ["next"]})
