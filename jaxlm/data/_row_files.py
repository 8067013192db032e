"""Files of rows, one example each: what labelled data and sentences share.

A data set of such files has the fields `files`, `validation_files`,
`validation_share` and `length`; a `layout`, which tells where they keep what;
and `all_texts()`, the texts of `files`.
"""

import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from jaxlm import errors
from jaxlm import files as io
from jaxlm.data import _vocabulary, order, sources
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.data.tokenizers import reporting

_SPLIT = 2**62  # stands for an epoch that training never reaches
Rows = TypeVar("Rows")  # has `rows`, `cut`, `blank` and `take(numbers)`


def check(data) -> None:
  """Raises UserError for a `validation_share` that is none."""
  if not 0 <= data.validation_share < 1:
    raise errors.UserError(
      "data.validation_share should be at least 0 and below 1, found "
      f"{data.validation_share}."
    )


def check_room(length: int, overhead: int) -> None:
  """Raises UserError where special tokens leave none."""
  if length <= overhead:
    raise errors.UserError(
      f"data.length={length} leaves no room for text beside {overhead} special "
      "tokens."
    )


def vocabulary(data, tokenizer, workdir, seed, found, report) -> Tokenizer:
  """The vocabulary of the workdir, made where it is missing.

  Args:
    data: whose texts it is trained on.
    tokenizer, workdir, seed, report: as of `prepare`.
    found: `sources.fingerprint` of its files.
  """
  return _vocabulary.obtain(
    tokenizer,
    pathlib.Path(workdir) / "tokenizer",
    documents=data.all_texts,
    sources=[*found, {"sha256": io.digest(data.layout)}],
    seed=seed,
    report=report,
  )


def tokenizer_report(data, tokenizer, workdir, seed, report) -> dict[str, Any]:
  """Makes the vocabulary where it is missing, and measures how it fits."""
  found = sources.fingerprint(data.files)
  made = vocabulary(data, tokenizer, workdir, seed, found, report)
  texts = (text for text in data.all_texts() if text.strip())
  return {"measured_on": "data.files"} | reporting.report(made, texts)


def split(
  data, encode: Callable[[Any, str], Rows], seed: int
) -> tuple[Rows, Rows | None]:
  """(training rows, held-out rows or None).

  Args:
    data: whose files are read.
    encode: (files, their key) -> rows as tokens.
    seed: of the share that is held out where there are no validation files.
  """
  train = encode(data.files, "data.files")
  if data.validation_files:
    return train, encode(data.validation_files, "data.validation_files")
  held = round(data.validation_share * train.rows)
  if not held:
    return train, None
  rows = order.permutation(seed, _SPLIT, train.rows)
  apart = train.take(np.sort(rows[:held]))._replace(cut=0, blank=0)
  return train.take(np.sort(rows[held:])), apart


def facts(data, tokenizer, found, train, held_out) -> dict[str, Any]:
  """What a run card says of files and rows; `found` as of `vocabulary`."""
  return {
    "vocab_size": tokenizer.vocab_size,
    "tokenizer_sha256": tokenizer.sha256,
    "length": data.length,
    "sources": found,
    "validation_sources": sources.fingerprint(data.validation_files)
    if data.validation_files
    else [],
    "rows": train.rows,
    "validation_rows": held_out.rows if held_out else 0,
  }


def summary(name: str, train, held_out, cut: str, blank: str) -> str:
  """A line on rows that were read.

  Args:
    name: of such data.
    train, held_out: rows; the second may be None.
    cut, blank: what to say behind numbers of such rows.
  """
  parts = [part for part in (train, held_out) if part]
  text = f"{name}: {train.rows:,} training rows"
  if held_out:
    text += f", {held_out.rows:,} held out"
  counts = (sum(getattr(p, n) for p in parts) for n in ("cut", "blank"))
  for count, told in zip(counts, (cut, blank)):
    text += f"; {count:,} {told}" if count else ""
  return f"{text}."
