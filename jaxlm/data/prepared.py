"""What `prepare` of every data set hands to training, and batches as text."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxlm.data import _decoder_text, _row_text, _views
from jaxlm.types import Batch, Task

if TYPE_CHECKING:
  from jaxlm.data.tokenizer import Tokenizer


class Prepared(NamedTuple):
  """Data that is ready to train on.

  Attributes:
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer`, no TensorFlow inside.
    train: the Task of training batches.
    validation: the Task of held-out batches, or None where there are none.
    facts: hashes, counts, `vocab_size` and, for labelled data, `classes`; for
      pairs of texts, their `relations`, which are labels too.
  """

  tokenizer: "Tokenizer"
  train: Task
  validation: Task | None
  facts: Mapping[str, Any]

  def changed(self, change: Callable[[Task], Task], **facts) -> "Prepared":
    """With both Tasks changed, and more facts."""
    train, held_out = (
      task and change(task) for task in (self.train, self.validation)
    )
    facts = {**self.facts, **facts}
    return self._replace(train=train, validation=held_out, facts=facts)

  @property
  def label_names(self) -> Sequence[str]:
    """Names of the labels or tags of batches, () where they have none."""
    return self.facts.get("classes") or self.facts.get("relations", ())


def text_of(task: Task, seed: int, step: int, batch: Batch) -> Batch:
  """`Task.text_at` of a batch; where a task has none, what the batch shows."""
  if task.text_at is not None:
    return task.text_at(seed, step)
  inputs, segments = _views.read(batch)
  return {"tokens": inputs, "segments": segments}


def describe(
  batch: Batch,
  tokenizer: "Tokenizer",
  rows: int = 4,
  text: Batch | None = None,
  classes: Sequence[str] = (),
) -> str:
  """Shows a batch as text: documents, what is hidden, labels, realised rates.

  Args:
    batch: numpy arrays as `Task.batch_at` gives them.
    tokenizer: of the data.
    rows: how many rows to show; the rates are those of the whole batch.
    text: what the batch was made of, as `Task.text_at` gives it, to be shown
      where the model reads something else; None: only what the batch tells.
    classes: names of labels and tags.
  """
  shown = _row_text.Shown(batch, tokenizer, text or {}, classes)
  lines = [
    line
    for row in range(min(rows, len(batch["inputs"])))
    for line in shown.lines(row)
  ]
  return "\n".join([*lines, *_rates(batch, tokenizer)])


def _rates(batch, tokenizer) -> list[str]:
  segments = _views.read(batch).segments
  real = int((segments > 0).sum())
  lines = [f"{real:,} tokens, {1 - real / segments.size:.2%} padding"]
  lines += _decoder_text.rates(batch)
  if "word_vectors" in batch:
    width = batch["word_vectors"].shape[-1]
    lines.append(f"a vector of {width} numbers for every token")
  seen, target = _row_text.predictions(batch)
  if not len(seen):
    return lines
  lines.append(f"{len(seen):,} predictions, {len(seen) / real:.2%} of tokens")
  if "predict_ids" in batch:
    masked = seen == tokenizer.special_ids.get("mask", -1)
    kept = ~masked & (seen == target)
    other = ~masked & ~kept
    lines.append(
      f"predicted tokens are shown masked {masked.mean():.1%}, as another "
      f"token {other.mean():.1%}, as they are {kept.mean():.1%}"
    )
  return lines
