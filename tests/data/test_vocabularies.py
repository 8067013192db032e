import importlib.util
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from jaxlm.data import tokenizers

TEXT = ["The quick fox.", "नेपाली भाषामा र्\u200dयाल ।", "", "a [SEP] b"] * 9


@pytest.fixture(scope="module")
def vocabularies():
  from jaxlm.data.vocabularies import SeqioVocabulary

  return {
    kind: SeqioVocabulary(
      tokenizers.train({"kind": kind, "vocab_size": 400}, TEXT)
    )
    for kind in ("wordpiece", "byte_bpe", "unigram")
  }


def test_it_is_a_seqio_vocabulary(vocabularies):
  import seqio

  for kind, vocabulary in vocabularies.items():
    assert isinstance(vocabulary, seqio.Vocabulary)
    tokenizer = vocabulary.tokenizer
    assert vocabulary.vocab_size == tokenizer.vocab_size, kind
    assert (vocabulary.pad_id, vocabulary.unk_id) == (0, 1)
    assert (vocabulary.bos_id, vocabulary.eos_id) == (2, 3)
    for text in TEXT[:4]:
      assert vocabulary.encode(text) == tokenizer.encode(text)


def test_tensorflow_gives_the_same_ids(vocabularies):
  from jaxlm.data._seqio import tf

  for vocabulary in vocabularies.values():
    expected = vocabulary.tokenizer.encode_batch(TEXT)
    ragged = vocabulary.encode_batch_tf(tf.constant(TEXT))
    assert ragged.dtype == tf.int32
    assert ragged.to_list() == expected
    for text, ids in zip(TEXT[:4], expected):
      found = vocabulary.encode_tf(tf.constant(text))
      assert found.shape.rank == 1  # seqio's own BERT wrapper gives a matrix
      assert found.numpy().tolist() == ids


def test_a_packed_row_is_decoded_whole(vocabularies):
  from jaxlm.data._seqio import tf

  for vocabulary in vocabularies.values():
    tokenizer = vocabulary.tokenizer
    ids, _ = tokenizer.bracket(
      tokenizer.encode("The quick"), tokenizer.encode("fox.")
    )
    row = np.array([*ids, 0, 0])  # seqio's base class stops at the first end
    text = vocabulary.decode(row)
    assert "quick" in text and "fox" in text
    texts = vocabulary.decode_tf(tf.constant(np.stack([row, row])))
    assert [t.decode() for t in texts.numpy()] == [text, text]
    assert vocabulary.decode_tf(tf.constant(row)).numpy().decode() == text
    assert vocabulary.decode([10**6]) == ""  # unknown


def test_it_runs_in_a_seqio_task_and_its_iterator_is_saved(
  vocabularies, tmp_path
):
  from jaxlm.data._seqio import seqio, tf

  vocabulary = vocabularies["wordpiece"]
  features = {"text": seqio.Feature(vocabulary, add_eos=True)}

  def dataset(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    return tf.data.Dataset.from_tensor_slices({"text": TEXT})

  name = f"vocabulary_test_{vocabulary.tokenizer.sha256[:8]}"
  task = seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(dataset, splits=["train"]),
    preprocessors=[seqio.preprocessors.tokenize],
    output_features=features,
  )

  def rows():
    made = task.get_dataset(split="train", shuffle=False, seed=0)
    return iter(made)

  iterator = rows()
  expected = [next(iterator)["text"].numpy().tolist() for _ in range(6)]
  assert expected[0] == vocabulary.encode(TEXT[0])
  again = rows()
  for _ in range(3):
    next(again)
  saved = tf.train.Checkpoint(it=again).write(str(tmp_path / "it"))
  restored = rows()
  tf.train.Checkpoint(it=restored).read(saved)
  found = [next(restored)["text"].numpy().tolist() for _ in range(3)]
  assert found == expected[3:]
  del iterator, again, restored


def test_equality_and_pickling_follow_the_tokenizer(vocabularies):
  wordpiece = vocabularies["wordpiece"]
  again = pickle.loads(pickle.dumps(wordpiece))
  assert again == wordpiece and hash(again) == hash(wordpiece)
  assert again.encode(TEXT[1]) == wordpiece.encode(TEXT[1])
  assert wordpiece != vocabularies["unigram"]
  assert wordpiece != wordpiece.tokenizer


def test_the_stand_in_for_editdistance():
  from jaxlm.data._seqio import distance

  assert distance("kitten", "sitting") == 3
  assert distance("", "abc") == distance("abc", "") == 3
  assert distance("same", "same") == 0
  if importlib.util.find_spec("editdistance") is None:
    assert "editdistance" not in sys.modules  # only while seqio was imported


def test_data_sets_are_listed_without_seqio():
  code = (
    "import sys\n"
    "from jaxlm.data import datasets, tokenizers, vocabularies\n"
    "datasets.kinds(), tokenizers.tokenizers.kinds()\n"
    "print(sorted({'seqio', 'tensorflow'} & set(sys.modules)))"
  )
  found = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert found.stdout.strip() == "[]"
