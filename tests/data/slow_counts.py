"""Rates of batches, counted a token at a time in Python."""

import itertools
from collections import Counter

import numpy as np
import pytest

from jaxlm.data import _label_measures, _measures
from jaxlm.data.prepared import describe


def shown(batch, text, prepared) -> str:
  """All rows of a batch as `jaxlm data` shows them."""
  rows = len(batch["inputs"])
  return describe(batch, prepared.tokenizer, rows, text, prepared.label_names)


def documents(ids, segments):
  """(row, segment, its ids) of all rows."""
  for row, own in enumerate(segments):
    for segment in range(1, own.max() + 1):
      yield row, segment, ids[row][own == segment].tolist()


def predictions(batch):
  for row, weights in enumerate(batch["predict_weights"]):
    for slot, weight in enumerate(weights):
      if weight > 0:
        place = batch["predict_positions"][row, slot]
        yield row, place, batch["predict_ids"][row, slot]


def ordinary_ids(ids, tokenizer):
  unk = tokenizer.special_ids.get("unk")
  return [i for i in map(int, ids) if i == unk or not tokenizer.is_special[i]]


def masked_view(batch):
  key = "corrupted_inputs" if "predict_ids" in batch else "inputs"
  return batch.get(key, batch["inputs"])


def solid(tokenizer, text) -> str:
  text = tokenizer.normalize(text).replace("▁", " ")
  return "".join(text.split())


def rates(pairs, prepared) -> dict:
  """All rates, counted a token at a time."""
  tokenizer = prepared.tokenizer
  mask = tokenizer.special_ids.get("mask", -1)
  unk = tokenizer.special_ids.get("unk", -1)
  n = Counter()
  for batch, text in pairs:
    view = masked_view(batch)
    moves = "decoder_inputs" in batch or view.shape != text["tokens"].shape
    if "predict_ids" not in batch:
      moves = moves or text.get("reworded", np.zeros(1)).any()
    for row, ids in enumerate(text["tokens"]):
      left = batch["inputs"][row].tolist()
      n["rows"] += 1
      n["segments"] += len(set(batch["segments"][row].tolist()) - {0})
      n["read"] += len(left)
      n["real"] += sum(s > 0 for s in batch["segments"][row])
      for place, token in enumerate(ids.tolist()):
        ordinary = bool(ordinary_ids([token], tokenizer))
        if not ordinary or not text["segments"][row][place]:
          continue
        n["tokens"] += 1
        n["unknown"] += token == unk
        if "decoder_inputs" in batch:
          n["corrupted"] += token not in left
          if token in left:
            left.remove(token)
        elif not moves:
          n["corrupted"] += int(view[row][place] != token)
          n["masked"] += int(view[row][place] == mask)
      if "decoder_inputs" in batch:
        n["masked"] += batch["inputs"][row].tolist().count(mask)
    if "predict_ids" in batch:
      for row, place, target in predictions(batch):
        n["predictions"] += 1
        n["kept"] += int(view[row, place] == target)
    elif "weights" in batch:
      n["predictions"] += sum(w > 0 for w in batch["weights"].ravel())
  share = lambda name: n[name] / n["tokens"]
  return dict(
    sequences=n["rows"] // prepared.facts.get("copies_of_a_row", 1),
    rows=n["rows"],
    tokens=n["tokens"],
    predictions=n["predictions"],
    packing=n["real"] / n["read"],
    segments=n["segments"] / n["rows"],
    corrupted=share("corrupted"),
    masked=share("masked"),
    kept=share("kept"),
    unknown=share("unknown"),
  )


def sources(found, pairs, prepared, folder):
  """Each row is from the file that holds its words."""
  files = {
    file.stem: solid(prepared.tokenizer, file.read_text())
    for file in folder.glob("*.txt")
  }
  if len(files) < 2:
    return
  counts = Counter()
  for batch, _ in pairs:
    for row in range(len(batch["inputs"])):
      own = documents(batch["inputs"][[row]], batch["segments"][[row]])
      said = [prepared.tokenizer.decode(ids) for *_, ids in own]
      said = [solid(prepared.tokenizer, part) for part in said]
      (name,) = (n for n, read in files.items() if all(s in read for s in said))
      counts[name] += 1
  assert len(counts) == 2
  assert found.pop(_measures.Sources).rows == counts


def rewording(found, pairs, prepared, folder):
  """Against the table of longest common subsequences."""
  n = Counter()
  for batch, text in pairs:
    if not text.get("reworded", np.zeros(1)).any():
      return
    views = documents(batch["inputs"], batch["segments"])
    texts = documents(text["tokens"], text["segments"])
    for (*_, ids), (*_, other) in zip(texts, views):
      a, b = (ordinary_ids(x, prepared.tokenizer) for x in (ids, other))
      n["tokens"] += len(a)
      n["removed"] += len(a) - len(b)
      n["moved"] += len(b) - common(a, b)
  rate = found.pop(_measures.Rewording)
  assert rate.removed == n["removed"] / n["tokens"] > 0.1
  assert rate.moved == n["moved"] / n["tokens"] > 0


def common(a, b) -> int:
  table = np.zeros((len(a) + 1, len(b) + 1), int)
  for i, j in itertools.product(range(len(a)), range(len(b))):
    longer = max(table[i, j + 1], table[i + 1, j])
    table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else longer
  return int(table[-1, -1])


def labels(found, pairs, prepared, folder):
  """A class is the first letter; a relation is what the batch says."""
  if "labels" not in pairs[0][0] or pairs[0][0]["labels"].dtype != np.int32:
    return
  counts, names = Counter(), prepared.label_names
  for batch, text in pairs:
    said = shown(batch, text, prepared)
    for row, numbers in enumerate(batch["labels"]):
      for k, number in enumerate(numbers):
        if batch["label_weights"][row, k] > 0:
          name = names[number]
          if "classes" in prepared.facts:
            ids = batch["inputs"][row][batch["segments"][row] > 0]
            name = prepared.tokenizer.decode(ids).strip()[0]
            assert f"    label {name}" in said
          counts[name] += 1
    assert said.count("    label ") == (batch["label_weights"] > 0).sum()
  assert found.pop(_label_measures.Labels).counts == counts


def scores(found, pairs, prepared, folder):
  """A score is how many words a text has."""
  if "labels" not in pairs[0][0] or pairs[0][0]["labels"].dtype == np.int32:
    return
  sizes = [
    len(prepared.tokenizer.decode(row).split())
    for batch, _ in pairs
    for row in batch["inputs"]
  ]
  got = found.pop(_label_measures.Scores)
  want = (len(sizes), np.mean(sizes), np.std(sizes))
  assert tuple(got) == pytest.approx(want)


def tags(found, pairs, prepared, folder):
  """A tag is the first letter of its word; of E2S2, how a token differs."""
  if "tags" not in pairs[0][0]:
    return
  counts = Counter()
  for batch, text in pairs:
    said = shown(batch, text, prepared)
    for row, place in zip(*np.nonzero(batch["tag_weights"])):
      piece = prepared.tokenizer.id_to_token(batch["inputs"][row, place])
      if "corrupted_inputs" in batch:
        name = ("kept", "shuffled", "replaced")[batch["tags"][row, place]]
        other = batch["corrupted_inputs"][row, place]
        other = prepared.tokenizer.id_to_token(other)
        assert (name == "kept") == (piece == other)
        mark = f"{place}: {piece} -> {other} {name}"
        assert name == "kept" or mark in said
      else:
        name = f"T{piece[0]}"
        assert f"{place}: {piece} {name}" in said
      counts[name] += 1
  assert found.pop(_label_measures.Tags).counts == counts


def notes(found, pairs, prepared, folder):
  if "note_ids" not in pairs[0][0]:
    return
  rows = noted = tokens = spans = 0
  for batch, text in pairs:
    said = shown(batch, text, prepared)
    for row, ids in enumerate(text["tokens"]):
      rows += 1
      tokens += len(ordinary_ids(ids, prepared.tokenizer))
      noted += sum(note > 0 for note in batch["note_ids"][row])
      for note, start, end in batch["note_spans"][row]:
        if note:
          word = prepared.tokenizer.decode(ids[start:end])
          assert f"{start}: {word} (note {note})" in said
          spans += 1
  assert spans
  want = (noted / tokens, spans / rows)
  assert tuple(found.pop(_measures.Notes)) == pytest.approx(want)


def visible(found, pairs, prepared, folder):
  if "visible_positions" not in pairs[0][0]:
    return
  seen = there = 0
  for batch, text in pairs:
    said = shown(batch, text, prepared)
    for row, places in enumerate(batch["visible_positions"]):
      own = batch["segments"][row]
      there += sum(own > 0)
      real = [p for p in places if p < len(own) and own[p]]
      seen += len(real)
      read = batch["inputs"][row][[p for p in real if own[p] == 1]]
      read = prepared.tokenizer.decode(read, specials=True)
      assert f"    encoder reads | {read}" in said
  assert found.pop(_measures.Visible).read == seen / there


def targets(found, pairs, prepared, folder):
  if "decoder_inputs" not in pairs[0][0]:
    return
  written = places = read = 0
  for batch, _ in pairs:
    for row, segments in zip(batch["weights"], batch["segments"]):
      written += sum(weight > 0 for weight in row)
      places += len(row)
      read += sum(segment > 0 for segment in segments)
  want = (written / places, written / read)
  assert tuple(found.pop(_measures.Targets)) == pytest.approx(want)


PARTS = (
  sources,
  rewording,
  labels,
  scores,
  tags,
  notes,
  visible,
  targets,
)
