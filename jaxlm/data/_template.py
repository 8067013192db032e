"""The special tokens that a pipeline puts around one text, or two.

Read off the pipeline's own post-processor, so that rows made here equal the
rows that `transformers` makes from the exported tokenizer.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Template(NamedTuple):
  """Special tokens around sequences.

  Attributes:
    around: special ids before, between and behind; one more than sequences.
    around_types: their sentence types.
    types: the sentence type of each sequence.
  """

  around: tuple[tuple[int, ...], ...]
  around_types: tuple[tuple[int, ...], ...]
  types: tuple[int, ...]

  @property
  def overhead(self) -> int:
    """Number of special tokens."""
    return sum(len(ids) for ids in self.around)

  def fill(self, *sequences: Sequence[int]) -> tuple[list[int], list[int]]:
    """(ids, types) of the sequences with the special tokens around."""
    ids, types = list(self.around[0]), list(self.around_types[0])
    for i, sequence in enumerate(sequences):
      ids += [*sequence, *self.around[i + 1]]
      types += [self.types[i]] * len(sequence) + [*self.around_types[i + 1]]
    return ids, types


def templates(pipeline, eos: int | None) -> tuple[Template, Template]:
  """The templates of one and of two sequences.

  A pipeline that adds nothing by itself, as GPT-2's, gets the end of text
  behind each sequence.
  """
  sample = _sample(pipeline)
  return _read(pipeline, (sample,), eos), _read(pipeline, (sample,) * 2, eos)


def _sample(pipeline):
  for text in ("a", *pipeline.get_vocab(False)):
    encoding = pipeline.encode(text, add_special_tokens=False)
    if len(encoding):
      return encoding
  raise ValueError("the vocabulary encodes none of its own pieces")


def _read(pipeline, samples, eos) -> Template:
  made = pipeline.post_process(*samples)
  if len(made) == sum(len(s) for s in samples):  # nothing was added
    return _closed(len(samples), eos)
  around, types, inner = [[]], [[]], []
  left = [len(s) for s in samples]
  rows = zip(made.ids, made.type_ids, made.special_tokens_mask)
  for index, kind, special in rows:
    if special:
      around[-1].append(index)
      types[-1].append(kind)
      continue
    left[len(around) - 1] -= 1
    if not left[len(around) - 1]:
      around.append([])
      types.append([])
      inner.append(kind)
  return Template(_frozen(around), _frozen(types), tuple(inner))


def _closed(count: int, eos: int | None) -> Template:
  end = () if eos is None else (eos,)
  around = ((), *[end] * count)
  return Template(around, tuple((0,) * len(a) for a in around), (0,) * count)


def _frozen(lists) -> tuple[tuple[int, ...], ...]:
  return tuple(tuple(part) for part in lists)
