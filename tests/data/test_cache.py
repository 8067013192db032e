"""The cache: whole or not at all, the same bytes again, damage named."""

import errno
import json
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from jaxlm.data import _shards, cache
from jaxlm.errors import UserError
from tests.data import fakes


@pytest.fixture
def numbers():
  return fakes.NumberTokenizer()


SOURCES = {
  "files": [{"name": "a.txt", "bytes": 3, "sha256": "aa", "path": "/x/a.txt"}]
}


def texts(count=200, seed=0):
  rng = np.random.default_rng(seed)
  for i in range(count):
    length = rng.integers(0, 30)
    words = rng.integers(5, 60, length)
    yield (
      "validation" if i % 10 == 0 else "train",
      "\n".join(" ".join(map(str, w)) for w in np.array_split(words, 3)),
    )


def key(tokenizer, **changes):
  values = dict(
    sources=SOURCES,
    tokenizer_sha256=tokenizer.sha256,
    arrangement={"kind": "documents"},
    width=16,
    rows_per_shard=50,
    format="text",
  )
  return cache.key(**(values | changes))


def build(folder, tokenizer, **changes):
  return cache.build(
    folder,
    key(tokenizer, **changes),
    texts(),
    tokenizer,
    lambda text: text.split("\n"),
  )


def contents(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("kind", ["documents", "chunks", "blocks", "pairs"])
def test_two_builds_are_the_same_bytes(tmp_path, numbers, kind):
  spec = {"kind": kind}
  build(tmp_path / "a", numbers, arrangement=spec)
  build(tmp_path / "b", numbers, arrangement=spec)
  assert contents(tmp_path / "a") == contents(tmp_path / "b")
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_holds_every_token_once(tmp_path, numbers):
  made = build(tmp_path / "c", numbers)
  for split in ("train", "validation"):
    rows = made.gather(split, np.arange(made.rows(split)))
    body = rows["tokens"][rows["tokens"] >= 5]
    want = [int(w) for s, text in texts() if s == split for w in text.split()]
    assert sorted(body) == sorted(want)
    entry = made.manifest["splits"][split]
    assert entry["tokens"] == len(want)
    filled = (rows["segments"] > 0).sum()
    assert entry["packing"]["filled"] == filled
    assert entry["packing"]["efficiency"] == pytest.approx(
      filled / rows["segments"].size, abs=1e-6
    )
    assert entry["documents"] + entry["empty_documents"] == sum(
      s == split for s, _ in texts()
    )
  assert len(made.manifest["splits"]["train"]["shards"]) > 1


def test_arrays_of_all_splits_have_one_shape(tmp_path, numbers):
  """However many pairs fit in the fullest row of each."""
  pair = "5 6\n7 8"  # four rows of it fit into one of 28 tokens, or one long
  long = " ".join(["9"] * 9) + "\n" + " ".join(["9"] * 9)
  texts = [("train", pair)] * 12 + [("validation", long)] * 3
  spec = {"kind": "pairs", "short_seq_prob": 0.0}
  made = cache.build(
    tmp_path / "c",
    key(numbers, arrangement=spec, width=28),
    texts,
    numbers,
    lambda text: text.split("\n"),
  )
  train, held = (made.gather(s, np.arange(1)) for s in ("train", "validation"))
  assert train["labels"].shape == held["labels"].shape == (1, 4)
  assert train["cls_positions"].shape == held["cls_positions"].shape
  assert (train["labels"] >= 0).sum() == 4
  assert (held["labels"] >= 0).sum() == 1
  assert (held["cls_positions"][0, 1:] == 0).all()


def test_shards_do_not_show(tmp_path, numbers):
  many = build(tmp_path / "many", numbers, rows_per_shard=7)
  one = build(tmp_path / "one", numbers, rows_per_shard=10_000)
  rows = one.rows("train")
  assert len(many.files("train", "tokens")) == -(-rows // 7)
  assert len(one.files("train", "tokens")) == 1
  some = np.random.default_rng(0).integers(0, rows, 40)
  a, b = many.gather("train", some), one.gather("train", some)
  assert a.keys() == b.keys() == {"tokens", "segments"}
  assert all(np.array_equal(a[k], b[k]) for k in a)
  assert a["tokens"].dtype == np.uint16


def test_wide_vocabularies_take_wide_ids(tmp_path, numbers):
  numbers.vocab_size = 70_000
  made = cache.build(
    tmp_path / "c",
    key(numbers),
    [("train", "69999 12")],
    numbers,
  )
  tokens = made.gather("train", [0])["tokens"]
  assert tokens.dtype == np.uint32
  assert tokens[0, :4].tolist() == [2, 69999, 12, 3]


def test_opens_what_was_asked_for(tmp_path, numbers):
  folder = tmp_path / "c"
  made = build(folder, numbers)
  assert cache.open_cache(folder, key(numbers), verify=True).sha256 == (
    made.sha256
  )
  with pytest.raises(UserError, match="width was 16, the config gives 32"):
    cache.open_cache(folder, key(numbers, width=32))
  with pytest.raises(UserError, match="tokenizer was .*gives 0000"):
    cache.open_cache(folder, key(numbers, tokenizer_sha256="0000"))
  other = {"files": [{"name": "b.txt", "bytes": 3, "sha256": "bb"}]}
  with pytest.raises(UserError) as error:
    cache.open_cache(folder, key(numbers, sources=other))
  assert "files no longer given: a.txt" in str(error.value)
  assert "files not in the cache: b.txt" in str(error.value)
  assert f"Delete the folder '{folder}'" in str(error.value)
  changed = {"files": [{"name": "a.txt", "bytes": 3, "sha256": "bb"}]}
  with pytest.raises(UserError, match="files changed since: a.txt"):
    cache.open_cache(folder, key(numbers, sources=changed))


def test_never_written_over(tmp_path, numbers):
  made = build(tmp_path / "c", numbers)
  before = contents(tmp_path / "c")
  assert build(tmp_path / "c", numbers).sha256 == made.sha256
  with pytest.raises(UserError, match="was made from something else"):
    build(tmp_path / "c", numbers, width=32)
  assert contents(tmp_path / "c") == before


def test_damage_is_named(tmp_path, numbers):
  folder = tmp_path / "c"
  build(folder, numbers)
  shard = folder / "train-00001-tokens.npy"
  whole = shard.read_bytes()

  shard.write_bytes(whole[:-1])
  with pytest.raises(UserError, match="00001-tokens.npy' has .* half-writ"):
    cache.open_cache(folder)
  shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  cache.open_cache(folder, verify=False)  # the size is right: all it looks at
  with pytest.raises(UserError, match="00001-tokens.npy' is damaged"):
    cache.open_cache(folder)
  shard.unlink()
  with pytest.raises(UserError, match="lacks '.*00001-tokens.npy'"):
    cache.open_cache(folder)
  shard.write_bytes(whole)

  manifest = folder / "manifest.json"
  text = manifest.read_text()
  manifest.write_text(text[: len(text) // 2])
  with pytest.raises(UserError, match="manifest.json' is damaged"):
    cache.open_cache(folder)
  manifest.write_text(text.replace('"rows": ', '"rows": 1'))
  with pytest.raises(UserError, match="its own sha256"):
    cache.open_cache(folder)
  manifest.write_text(json.dumps(json.loads(text) | {"format": 9}))
  with pytest.raises(UserError, match="of format 9"):
    cache.open_cache(folder)
  manifest.unlink()
  with pytest.raises(UserError, match="has no manifest.json"):
    cache.open_cache(folder)


def test_a_failure_leaves_nothing(tmp_path, numbers):
  def broken():
    yield "train", "7 8 9"
    raise UserError("'b.txt', line 3 is not UTF-8")

  with pytest.raises(UserError, match="line 3"):
    cache.build(tmp_path / "c", key(numbers), broken(), numbers)
  assert list(tmp_path.iterdir()) == []


def test_leftovers_of_the_dead_are_told_and_removed(tmp_path, numbers):
  left = tmp_path / f".c-building-{socket.gethostname()}-999999999"
  left.mkdir()
  (left / "train.ids").write_bytes(b"xx")
  told = []
  cache.build(
    tmp_path / "c", key(numbers), texts(), numbers, report=told.append
  )
  assert not left.exists() and "half-written" in told[0]


def test_the_second_of_two_builders_takes_what_the_first_made(
  tmp_path, numbers
):
  def raced():
    yield from texts()
    build(tmp_path / "other", numbers)
    (tmp_path / "other").rename(tmp_path / "c")

  made = cache.build(tmp_path / "c", key(numbers), raced(), numbers)
  assert made.sha256 == cache.open_cache(tmp_path / "c").sha256
  assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_killed_and_run_again(tmp_path, numbers):
  code = f"""
    import time
    from jaxlm.data import cache
    from tests.data import fakes
    def texts():
      yield "train", "7 8 9"
      print("busy", flush=True)
      time.sleep(60)
    tokenizer = fakes.NumberTokenizer()
    key = cache.key({{}}, "t", dict(kind="documents"), 16)
    cache.build({str(tmp_path / "c")!r}, key, texts(), tokenizer)
  """
  child = subprocess.Popen(
    [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
  )
  assert child.stdout.readline() == b"busy\n"
  child.kill()
  child.communicate()
  assert not (tmp_path / "c").exists() and any(tmp_path.iterdir())
  told = []
  cache.build(
    tmp_path / "c", key(numbers), texts(), numbers, report=told.append
  )
  assert "half-written" in told[0]
  assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_full_disk_is_a_sentence(tmp_path, numbers, monkeypatch):
  def full(self, data):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(_shards._File, "write", full)
  with pytest.raises(UserError, match="disk is full"):
    build(tmp_path / "c", numbers)
  assert list(tmp_path.iterdir()) == []


def test_no_tokens(tmp_path, numbers):
  with pytest.raises(UserError, match="No document holds a token"):
    cache.build(tmp_path / "c", key(numbers), [("train", " ")], numbers)


def test_progress_counts(tmp_path, numbers):
  seen = {}
  made = cache.build(
    tmp_path / "c",
    key(numbers),
    texts(),
    numbers,
    progress=lambda what, done: seen.update({what: done}),
  )
  total = sum(e["tokens"] for e in made.manifest["splits"].values())
  assert seen["tokens"] == total and seen["rows"] > 0
