"""Rows of a batch as text: every document, and what was done to it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlm.data import _decoder_text, _views
from jaxlm.types import Batch


class Shown(NamedTuple):
  """Shows the documents of rows.

  Attributes:
    batch, tokenizer, text, classes: as of `prepared.describe`; `text` is {}
      where it is not known.
  """

  batch: Batch
  tokenizer: Any
  text: Batch
  classes: Sequence[str] = ()

  def lines(self, row: int) -> Iterator[str]:
    """Lines about a row."""
    segments = _views.read(self.batch).segments[row]
    source = f", of {self.text['source'][row]}" if "source" in self.text else ""
    yield (
      f"row {row}: {segments.max()} segments, {(segments > 0).sum()} tokens"
      f"{source}"
    )
    for segment in range(1, segments.max() + 1):
      places = np.flatnonzero(segments == segment)
      yield f"  {segment} | {self._said(self.batch['inputs'][row][places])}"
      for part in (
        self._original,
        self._masked,
        self._visible,
        self._predicted,
        self._unpredicted,
      ):
        yield from part(row, segment)
      yield from _decoder_text.lines(self.batch, self.tokenizer, row, segment)
      for part in (self._labels, self._tags, self._notes):
        yield from part(row, places)

  def _original(self, row, segment):
    """The text, where what is read does not begin with it."""
    if not self.text:
      return
    text = self._words(self.text["tokens"], self.text["segments"], row, segment)
    read = self._words(*_views.read(self.batch), row, segment)
    if np.array_equal(read, text[: len(read)]):
      return
    yield f"    text | {self._said(text)}"
    if np.any(self.text.get("reworded", False)):
      table = _views.is_text(self.tokenizer)
      text, read = (ids[table[ids]].tolist() for ids in (text, read))
      gone = [self._piece(i) for i in _views.left_out(text, read).elements()]
      moved = _views.moved(text, read)
      yield f"    left out {', '.join(gone) or 'nothing'}; {moved} moved"

  def _masked(self, row, segment):
    """The second view of a masked LM."""
    if view := _views.masked(self.batch):
      yield f"    masked | {self._said(self._words(*view, row, segment))}"

  def _visible(self, row, segment):
    """What an encoder reads that reads visible tokens alone."""
    if "visible_positions" not in self.batch:
      return
    inputs, segments = _views.read(self.batch)
    places = self.batch["visible_positions"][row]
    places = places[places < inputs.shape[1]]
    places = places[segments[row][places] == segment]
    yield f"    encoder reads | {self._said(inputs[row][places])}"

  def _predicted(self, row, segment):
    if "predict_ids" not in self.batch:
      return
    inputs, segments = _views.predicted(self.batch)
    around = _boundaries(self.batch, row)
    told = [
      f"{self._change(place, inputs[row][place], target)}"
      f"{around.get(place, '')}"
      for place, target in _targets(self.batch, row)
      if segments[row][place] == segment
    ]
    if told:
      yield f"    predict {', '.join(told)}"

  def _unpredicted(self, row, segment):
    """What is hidden and not predicted."""
    shown = _views.in_place(self.batch, self.text) if self.text else None
    if shown is None:
      return
    tokens = self.text["tokens"][row]
    changed = (shown[row] != tokens) & (self.text["segments"][row] == segment)
    changed[[place for place, _ in _targets(self.batch, row)]] = False
    told = [
      self._change(place, shown[row][place], tokens[place])
      for place in np.flatnonzero(changed)
    ]
    if told:
      yield f"    hidden, not predicted {', '.join(told)}"

  def _labels(self, row, places):
    """Labels that are read in these places, and texts that do not count."""
    batch = self.batch
    if "labels" in batch:
      for k in np.flatnonzero(batch["label_weights"][row] > 0):
        if batch["cls_positions"][row][k] in places:
          yield f"    label {self._class(batch['labels'][row][k])}"
    if "view_weights" in batch:
      weights = batch["view_weights"][row]  # of groups that are there
      for k in np.flatnonzero((weights == 0) & (weights[:, :1] > 0)):
        if batch["cls_positions"][row][k] in places:
          yield "    does not count"

  def _tags(self, row, places):
    """Tags of words; those of a second view are told as its noise."""
    if "tags" not in self.batch or "corrupted_inputs" in self.batch:
      return
    inputs, tags, weights = (
      self.batch[key][row] for key in ("inputs", "tags", "tag_weights")
    )
    told = [
      f"{at}: {self._piece(inputs[at])} {self._class(tags[at])}"
      for at in places
      if weights[at] > 0
    ]
    if told:
      yield f"    tags {', '.join(told)}"

  def _notes(self, row, places):
    """Rare words that have a note, and whether it learns from them."""
    if "note_ids" not in self.batch:
      return
    spans = self.batch["note_spans"][row]
    learnt = [
      f"{start}: {self._said(self.batch['inputs'][row][start:end])} "
      f"(note {note})"
      for note, start, end in spans
      if note and start in places
    ]
    if learnt:
      yield f"    notes {', '.join(learnt)}"

  def _words(self, ids, segments, row, segment):
    return ids[row][segments[row] == segment]

  def _said(self, ids) -> str:
    return self.tokenizer.decode(ids, specials=True)

  def _piece(self, index) -> str:
    return self.tokenizer.id_to_token(index)

  def _change(self, place, shown, target) -> str:
    return f"{place}: {self._piece(shown)} -> {self._piece(target)}"

  def _class(self, label) -> str:
    return self.classes[label] if len(self.classes) else str(label)


def predictions(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  """(shown, target) ids of all that a batch must predict, without a decoder."""
  inputs = _views.predicted(batch).inputs
  found = [
    (inputs[row][place], target)
    for row in range(len(inputs))
    for place, target in _targets(batch, row)
  ]
  shown, target = np.array(found, np.int64).reshape(-1, 2).T
  return shown, target


def _targets(batch, row) -> list[tuple[int, int]]:
  """(place, id) of what a row must predict."""
  if "predict_ids" in batch:
    counts = batch["predict_weights"][row] > 0
    places = batch["predict_positions"][row][counts]
    return list(zip(places, batch["predict_ids"][row][counts]))
  if "targets" in batch and "decoder_inputs" not in batch:
    places = np.flatnonzero(batch["weights"][row] > 0)
    return list(zip(places, batch["targets"][row][places]))
  return []


def _boundaries(batch, row) -> dict[int, str]:
  """place -> between which tokens its hidden span lies (SpanBERT)."""
  if "boundary_weights" not in batch:
    return {}
  counts = batch["boundary_weights"][row] > 0
  places = batch["predict_positions"][row][counts]
  ends = batch["boundary_positions"][row][counts]
  return {p: f" (between {a} and {b})" for p, (a, b) in zip(places, ends)}
