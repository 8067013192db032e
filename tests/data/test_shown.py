"""What `jaxlm data` says of every recipe's batches, against a slow count.

The kinds of data are those of the registry: a new one is tested here as soon
as it is registered and a shipped config reads it.
"""

import importlib
import itertools
import re
from collections import Counter

import numpy as np
import pytest

from jaxlm import configuration
from jaxlm.data import _label_measures, _measures, datasets, statistics
from jaxlm.data.prepared import describe, text_of

STEPS, ROWS, SEED = 2, 12, 3


def spec(name: str) -> dict:
  """The data of a config, with its tokenizer made small."""
  config = configuration.complete(configuration.load(name))
  tokenizer = config["tokenizer"] or dict(kind="wordpiece", lowercase=False)
  return config["data"], dict(tokenizer, vocab_size=320)


def variants() -> dict[str, str]:
  """{name:variant of every shipped config: kind of its data}."""
  found = {}
  for path in sorted(configuration.SHIPPED.glob("*.py")):
    module = importlib.import_module(f"configs.{path.stem}")
    sizes = list(getattr(module, "SIZES", ()))
    for size in ["tiny"] if "tiny" in sizes else sizes:
      name = f"{path.stem}:{size}"
      found[name] = module.get_config(size).data.kind
  return found


NAMES = variants()
# Of each kind of data the first config, and what it does not show of it.
DEFAULT = {
  next(name for name in NAMES if NAMES[name] == kind)
  for kind in datasets.kinds()
} | {
  "efficient_mlm:tiny",  # hides more than it predicts
  "structbert:tiny",  # relations and shuffled words
  "ul2:tiny",  # takes parts of rows
  "finetune:regression",
  "finetune:tagging",
}
CASES = [
  pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow)
  for name in NAMES
]


def write(folder, data):
  """The data with a text to read: words of the syllables of its source."""
  rng = np.random.default_rng(0)
  if "sources" in data:
    sources = {}
    for source, own in data["sources"].items():
      file = folder / f"{source}.txt"
      file.write_text(prose(rng, "aeiou" if len(sources) else "bdgkl"))
      sources[source] = own | dict(files=str(file), validation_share=0.1)
    return data | dict(sources=sources)
  if data["kind"] == "labelled":
    return data | labelled(rng, folder, data)
  file = folder / "text.txt"
  file.write_text(prose(rng, "bdgkl"))
  share = dict(share=0.05) if "share" in data else {}
  return data | share | dict(files=str(file), validation_share=0.1)


def words(rng, first: str, count: int) -> list[str]:
  """Words that begin with one of these letters, few of them often."""
  at = np.minimum(rng.zipf(1.4, count), 120).tolist()
  rest = ["".join(p) for p in itertools.product("mnrst", "aeiou", "mnrst")]
  return [f"{first[i % len(first)]}{'aeiou'[i % 4]}{rest[i]}" for i in at]


def prose(rng, first: str) -> str:
  """Documents of sentences, a line each."""
  return "\n\n".join(
    "\n".join(" ".join(words(rng, first, 12)) + "." for _ in range(8))
    for _ in range(60)
  )


def labelled(rng, folder, data) -> dict:
  """Rows whose labels can be read off their text."""
  file = folder / "rows.tsv"
  lines = []
  for size in rng.integers(3, 20, 80):
    row = words(rng, "bdgkl", size)
    lines += {
      "classification": [f"{' '.join(row)}\t{row[0][0]}"],
      "regression": [f"{' '.join(row)}\t{size}"],
      "tagging": [*(f"{word}\tT{word[0]}" for word in row), ""],
    }[data["task"]]
  if data["task"] == "tagging":
    file = folder / "rows.conll"
    more = dict(text=0, label=1)
  else:
    more = dict(text="sentence", label="label")
    lines = ["sentence\tlabel", *lines]
  file.write_text("\n".join(lines) + "\n")
  return dict(more, files=str(file))


@pytest.fixture(params=CASES)
def made(request, tmp_path):
  """(the data set, what it prepared, batches with their texts)."""
  data, tokenizer = spec(request.param)
  data = datasets.build(write(tmp_path, data))
  prepared = data.prepare(
    tokenizer=tokenizer,
    workdir=tmp_path / "run",
    batch_size=ROWS,
    seed=0,
    report=lambda line: None,
  )
  pairs = []
  for step in range(STEPS):
    batch = prepared.train.batch_at(SEED, step)
    pairs.append((batch, text_of(prepared.train, SEED, step, batch)))
  return data, prepared, pairs


def test_what_is_shown_and_measured(made, tmp_path):
  data, prepared, pairs = made
  read = solid(prepared.tokenizer, " ".join(written(data, tmp_path)))
  for batch, text in pairs:
    text_is_of_the_files(text, read, prepared.tokenizer)
    batch_is_of_the_text(batch, text, prepared.tokenizer)
    shown(batch, text, prepared)
  found = statistics.measure(prepared, seed=SEED, steps=STEPS)
  assert found.pop(statistics.Rates)._asdict() == pytest.approx(
    rates(pairs, prepared), rel=1e-12
  )
  for part in PARTS:
    part(found, pairs, prepared, tmp_path)
  assert not found
  fits = data.tokenizer_report(
    tokenizer=prepared.tokenizer, workdir=tmp_path / "run", seed=0
  )
  told = statistics.fit(fits)
  assert f"{fits['tokens_per_word']:.3f} tokens a word" in told[0]


def written(data, folder) -> list[str]:
  """The texts to train on; of tagged words without the tags."""
  if hasattr(data, "texts"):
    return [text for split, text in data.texts() if split == "train"]
  files = [file.read_text() for file in sorted(folder.glob("*.*"))]
  return [re.sub(r"\tT\w$", "", text, flags=re.MULTILINE) for text in files]


def solid(tokenizer, text) -> str:
  text = tokenizer.normalize(text).replace("▁", " ")
  return "".join(text.split())


def documents(ids, segments):
  """(row, segment, its ids) of all rows."""
  for row, own in enumerate(segments):
    for segment in range(1, own.max() + 1):
      yield row, segment, ids[row][own == segment].tolist()


def text_is_of_the_files(text, read, tokenizer):
  """Between special tokens, each document is a piece of what was read."""
  for _, _, ids in documents(text["tokens"], text["segments"]):
    groups = itertools.groupby(ids, lambda i: bool(tokenizer.is_special[i]))
    for special, piece in groups:
      if not special:
        said = tokenizer.decode(list(piece)).removeprefix("##")
        assert solid(tokenizer, said) in read


def batch_is_of_the_text(batch, text, tokenizer):
  """With what is predicted put back, the model reads the text's tokens."""
  tokens = text["tokens"]
  if "predict_ids" in batch:
    assert (batch["predict_weights"] > 0).any()
    for row, place, target in predictions(batch):
      assert tokens[row, place] == target
  elif "decoder_inputs" in batch:
    for row in range(len(tokens)):
      said = batch["targets"][row][batch["weights"][row] > 0]
      ordinary = Counter(ordinary_ids(tokens[row], tokenizer))
      assert not ordinary - Counter(batch["inputs"][row]) - Counter(said)
  elif not text.get("reworded", np.zeros(1)).any():
    length = batch["inputs"].shape[1]
    assert (batch["inputs"] == tokens[:, :length]).all()


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


def shown(batch, text, prepared):
  """The words of the text, and what is hidden of them, stand in its row."""
  tokenizer = prepared.tokenizer
  lines = describe(batch, tokenizer, ROWS, text, prepared.label_names).split(
    "\n"
  )
  starts = [i for i, line in enumerate(lines) if re.match(r"row \d+: ", line)]
  assert len(starts) == ROWS
  rows = [lines[a:b] for a, b in zip(starts, [*starts[1:], len(lines)])]
  segments = batch["segments"]
  for row, segment, ids in documents(text["tokens"], text["segments"]):
    if segment > segments[row].max():
      continue  # a last target alone
    seen = batch["inputs"][row][segments[row] == segment].tolist()
    want = seen if ids[: len(seen)] == seen else ids
    said = tokenizer.decode(want, specials=True)
    assert f"| {said}" in "\n".join(rows[row])
  view = masked_view(batch)
  piece = tokenizer.id_to_token
  told = set() if "predict_ids" not in batch else set(predictions(batch))
  for row, place, target in told:
    mark = f"{place}: {piece(view[row, place])} -> {piece(target)}"
    assert any("predict " in line and mark in line for line in rows[row])
  if "decoder_inputs" in batch:
    for row, said, weights in zip(rows, batch["targets"], batch["weights"]):
      said = tokenizer.decode(said[weights > 0], specials=True)
      assert f"    say | {said}" in "\n".join(row)
  if told:
    for row, place in zip(*np.nonzero(view != text["tokens"])):
      mark = f"{place}: {piece(view[row, place])} -> "
      mark += piece(text["tokens"][row, place])
      assert mark in "\n".join(rows[row])


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
    for row in range(ROWS):
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
    said = describe(batch, prepared.tokenizer, ROWS, text, names)
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
    said = describe(batch, prepared.tokenizer, ROWS, text, prepared.label_names)
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
  noted = tokens = spans = 0
  for batch, text in pairs:
    said = describe(batch, prepared.tokenizer, ROWS, text)
    for row, ids in enumerate(text["tokens"]):
      tokens += len(ordinary_ids(ids, prepared.tokenizer))
      noted += sum(note > 0 for note in batch["note_ids"][row])
      for note, start, end in batch["note_spans"][row]:
        if note:
          word = prepared.tokenizer.decode(ids[start:end])
          assert f"{start}: {word} (note {note})" in said
          spans += 1
  assert spans
  want = (noted / tokens, spans / (STEPS * ROWS))
  assert tuple(found.pop(_measures.Notes)) == pytest.approx(want)


def visible(found, pairs, prepared, folder):
  if "visible_positions" not in pairs[0][0]:
    return
  seen = there = 0
  for batch, text in pairs:
    said = describe(batch, prepared.tokenizer, ROWS, text)
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


def test_a_blank_negative_does_not_count(tmp_path):
  lines = ["a,b,c"] + ["fine weather,a fine day,rain"] * 4 + ["a b,b c,"] * 4
  (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
  made = datasets.build(
    dict(
      kind="sentences",
      files=str(tmp_path / "rows.csv"),
      columns=("a", "b", "c"),
      validation_share=0.0,
    )
  ).prepare(
    tokenizer=dict(kind="wordpiece", vocab_size=60),
    workdir=tmp_path / "run",
    batch_size=8,
    seed=0,
    report=lambda line: None,
  )
  batch = made.train.batch_at(0, 0)
  lines = describe(batch, made.tokenizer, 8).split("\n")
  blank = [i for i, line in enumerate(lines) if line == "    does not count"]
  assert len(blank) == 4
  assert all(lines[i - 1].startswith("  3 | [CLS] [SEP]") for i in blank)
