"""The special tokens that a pipeline puts around one text, or two.

Read off the pipeline's own post-processor, so that rows made here equal the
rows that `transformers` makes from the exported tokenizer.
"""

from collections.abc import Mapping, Sequence
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


def templates(pipeline, ids: Mapping[str, int]) -> tuple[Template, Template]:
  """The templates of one and of two sequences.

  Args:
    pipeline: of the `tokenizers` library.
    ids: role -> id, for a pipeline that adds nothing by itself: BERT's
      brackets where it has them, else the end of text behind each sequence.
  """
  sample = _sample(pipeline)
  return _read(pipeline, (sample,), ids), _read(pipeline, (sample,) * 2, ids)


def _sample(pipeline):
  for text in ("a", *pipeline.get_vocab(False)):
    encoding = pipeline.encode(text, add_special_tokens=False)
    if len(encoding):
      return encoding
  raise ValueError("the vocabulary encodes none of its own pieces")


def _read(pipeline, samples, ids) -> Template:
  made = pipeline.post_process(*samples)
  if len(made) == sum(len(s) for s in samples):  # nothing was added
    return _unstated(len(samples), ids)
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


def _unstated(count: int, ids: Mapping[str, int]) -> Template:
  if "cls" in ids and "sep" in ids:
    around = ((ids["cls"],), *[(ids["sep"],)] * count)
    types = (0, 0, 1)[: count + 1]
  else:
    around = ((), *[(ids["eos"],) if "eos" in ids else ()] * count)
    types = (0,) * (count + 1)
  around_types = tuple((t,) * len(a) for t, a in zip(types, around))
  return Template(around, around_types, types[1:])


def _frozen(lists) -> tuple[tuple[int, ...], ...]:
  return tuple(tuple(part) for part in lists)
