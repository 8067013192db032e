"""The seqio side of tasks: rows as a DataSource, corruption as preprocessing.

One function corrupts a whole batch. The seqio Task maps it over rows, the hot
path (`tasks.make`) calls it on rows gathered by numpy; both see the same
numbers, because they depend on (seed, row, epoch) alone. There is no Python
function inside a tf.data pipeline: such a pipeline cannot be saved, and can
hang when the process ends.
"""

from collections.abc import Callable, Mapping

import numpy as np

from jaxlm import files
from jaxlm.data._seqio import seqio, tf
from jaxlm.data.corruption import _threefry
from jaxlm.data.order import signed
from jaxlm.data.tasks import COPY_DTYPE, copies_of, files_of
from jaxlm.data.vocabularies import SeqioVocabulary

_DECODED = {
  np.dtype(np.uint8): tf.uint8,
  np.dtype(np.uint16): tf.uint16,
  np.dtype(np.uint32): tf.uint32,
  np.dtype(np.int8): tf.int8,
}
_as_it_is = tf.autograph.experimental.do_not_convert
_IDS = (
  "inputs",
  "corrupted_inputs",
  "decoder_inputs",
  "targets",
  "predict_ids",
)  # what a vocabulary can decode


class Corrupt:
  """A seqio preprocessor that also takes whole batches.

  Args:
    apply: what a corruption binds to a tokenizer.
    signature: array name -> (dtype, shape of a row), as `Cache.arrays` gives.
    seed: seed of the seqio Task; batches bring their own.
  """

  def __init__(
    self,
    apply: Callable,
    signature: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    seed: int,
  ):
    self._apply = apply
    self._seed = seed
    rows = {
      name: tf.TensorSpec([None, *shape], _DECODED[dtype])
      for name, (dtype, shape) in signature.items()
    }
    number = tf.TensorSpec([None], tf.int64)
    self.batch = tf.function(
      self._batch,
      autograph=False,  # rewrites no source, so it traces in half the time
      input_signature=[rows, tf.TensorSpec([], tf.int64), number, number],
    )

  def _batch(self, rows, seed, row, epoch):
    """Features of a batch; row and epoch are int64 [batch]."""
    rows = {k: tf.cast(v, tf.int32) for k, v in rows.items()}
    return self._apply(rows, _threefry.row_keys(seed, row, epoch))

  def __call__(self, dataset):
    """Maps it over the rows of a `tf.data.Dataset`, one at a time."""
    seed = tf.constant(signed(self._seed), tf.int64)

    @_as_it_is
    def one(example):
      one_row = {k: v[None] for k, v in example.items()}
      row, epoch = one_row.pop("row"), one_row.pop("epoch")
      out = self.batch(one_row, seed, row, epoch)
      return {k: v[0] for k, v in out.items()}

    return dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE)


class RowSource(seqio.DataSource):
  """The rows of a cache, in their order, with their numbers.

  `shuffle` changes nothing here: packing has shuffled documents already, and
  a Task shuffles what comes out.
  """

  def __init__(self, cache):
    self._cache = cache
    splits = list(cache.manifest["splits"])
    super().__init__(splits, {s: cache.rows(s) for s in splits})

  @property
  def supports_arbitrary_sharding(self) -> bool:
    """Any number of shards: row r goes to shard r % count."""
    return True

  def list_shards(self, split):
    """The shards' files."""
    return [str(p) for p in self._cache.files(split, "tokens")]

  def get_dataset(
    self,
    split="train",
    shuffle=True,
    seed=None,
    shard_info=None,
    *,
    sequence_length=None,
    use_cached=False,
    num_epochs=1,
  ):
    """Arrays of the cache and `row`, int64."""
    arrays = {
      name: self._array(split, name, dtype, shape)
      for name, (dtype, shape) in self._cache.arrays(split).items()
    }
    arrays["row"] = tf.data.Dataset.range(self._cache.rows(split))
    dataset = tf.data.Dataset.zip(arrays)
    if shard_info:
      dataset = dataset.shard(shard_info.num_shards, shard_info.index)
    return dataset

  def _array(self, split, name, dtype, shape):
    paths = self._cache.files(split, name)
    size = dtype.itemsize * int(np.prod(shape, dtype=int))
    header = paths[0].stat().st_size - size * _rows_in(paths[0])
    records = tf.data.FixedLengthRecordDataset(
      [str(p) for p in paths], record_bytes=size, header_bytes=header
    )
    kind = _DECODED[dtype]
    return records.map(
      _as_it_is(lambda record: tf.reshape(_decode(record, kind), shape))
    )


def count_epochs(dataset):
  """Adds `epoch`: rows come in ascending order, so it is new when they fall."""

  @_as_it_is
  def step(state, example):
    last, epoch = state
    epoch += tf.cast(example["row"] <= last, tf.int64)
    return (example["row"], epoch), example | {"epoch": epoch}

  start = (tf.constant(-1, tf.int64), tf.constant(0, tf.int64))
  return dataset.scan(start, step)


def copied(copies: int) -> Callable:
  """A preprocessor that makes rows of each row, numbered by `copy`."""

  @_as_it_is
  def several(example):
    numbers = tf.data.Dataset.range(copies)
    return numbers.map(
      _as_it_is(lambda copy: example | {"copy": tf.cast(copy, tf.uint16)})
    )

  return lambda dataset: dataset.flat_map(several)


def seqio_task(cache, corruption, tokenizer, length: int, seed: int = 0):
  """The seqio Task of a cache and a corruption, registered once by its hash.

  `task.get_dataset(split=..., num_epochs=...)` gives the examples of the
  cache's rows, masked anew in each epoch.
  """
  read = files_of(corruption)
  name = "jaxlm_" + files.digest(
    [cache.sha256, str(cache.folder), repr(corruption), read, length, seed]
  )
  if name in seqio.TaskRegistry.names():
    return seqio.TaskRegistry.get(name)
  split = next(iter(cache.manifest["splits"]))
  signature = cache.arrays(split)
  preprocessors = [count_epochs]
  copies = copies_of(corruption, length)
  if copies > 1:
    signature = signature | {"copy": (np.dtype(COPY_DTYPE), ())}
    preprocessors.append(copied(copies))
  corrupt = Corrupt(corruption.bind(tokenizer, length), signature, seed)
  outputs = corrupt.batch.get_concrete_function().structured_outputs
  features = {k: _feature(k, v, tokenizer) for k, v in outputs.items()}
  return seqio.TaskRegistry.add(
    name,
    source=RowSource(cache),
    preprocessors=[*preprocessors, corrupt],
    output_features=features,
  )


def taken(corruption, length: int) -> Callable:
  """(text, seed, rows, epochs) -> what of the rows' text is corrupted.

  All of it, but of a corruption that takes parts of rows.
  """
  if not hasattr(corruption, "taken"):
    return lambda text, *numbers: text
  take = corruption.taken(length)

  def apply(text, seed, rows, epochs):
    keys = _threefry.row_keys(np.int64(signed(seed)), rows, epochs)
    found = take({k: tf.cast(v, tf.int32) for k, v in text.items()}, keys)
    return {key: value.numpy() for key, value in found.items()}

  return apply


def _feature(key, spec, tokenizer):
  if key in _IDS and tokenizer.pad_id == 0:  # else seqio refuses it
    vocabulary = SeqioVocabulary(tokenizer)
  else:
    vocabulary = seqio.PassThroughVocabulary(tokenizer.vocab_size)
  return seqio.Feature(
    vocabulary, add_eos=False, dtype=spec.dtype, rank=len(spec.shape) - 1
  )


def _decode(record, kind):
  if kind == tf.uint32:  # not among the types that decode_raw knows
    return tf.cast(tf.io.decode_raw(record, tf.int32), tf.uint32)
  return tf.io.decode_raw(record, kind)


def _rows_in(path) -> int:
  return np.load(path, mmap_mode="r").shape[0]
