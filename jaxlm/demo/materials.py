"""The files of the demo: corpus, labelled task and sentence pairs.

```
folder/corpus/{train,validation}.jsonl        {"text", "file", "module"}
folder/module/{train,validation,test}.jsonl   {"text", "label"}
folder/pairs.jsonl                            {"real", "swapped"}
```
They follow from the Python installation alone. A file that is already there
is left as it is where it says the same, and never overwritten where not.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxlm import errors, files
from jaxlm.demo import corpus, module_task, preference


class Materials(NamedTuple):
  """What the demo trains and measures on.

  Attributes:
    corpus: split -> JSONL file, 'train' and 'validation'.
    module: split -> JSONL file of the labelled task.
    pairs: real and swapped sentences of the test files.
    majority: accuracy of always naming the commonest module.
    counts: texts, characters, pairs, classes: plain data for the report.
  """

  corpus: dict[str, pathlib.Path]
  module: dict[str, pathlib.Path]
  pairs: list[preference.Pair]
  majority: float
  counts: dict[str, Any]


def write(folder, *, root=None) -> Materials:
  """Collects the documentation of this Python and writes the demo's files.

  Args:
    folder: where; made if need be.
    root: the folder of the standard library; this Python's where None.

  Raises:
    UserError: the installation is stripped of its sources, or a file of
      these names is already there and says something else.
  """
  folder = pathlib.Path(folder)
  records = corpus.split(corpus.collect(root))
  task = module_task.examples(records)
  pairs = preference.pairs(_texts(records["test"]), _texts(records["train"]))
  corpus_files = {
    split: _put(folder / "corpus" / f"{split}.jsonl", records[split])
    for split in ("train", "validation")
  }
  task_files = {
    split: _put(folder / "module" / f"{split}.jsonl", rows)
    for split, rows in task.items()
  }
  _put(folder / "pairs.jsonl", (p._asdict() for p in pairs))
  return Materials(
    corpus=corpus_files,
    module=task_files,
    pairs=pairs,
    majority=module_task.majority(task["train"], task["test"]),
    counts=_counts(records, task, pairs),
  )


def _counts(records, task, pairs) -> dict[str, Any]:
  texts = {split: len(rows) for split, rows in records.items()}
  return {
    "texts": texts,
    "files": {s: len({r["file"] for r in v}) for s, v in records.items()},
    "characters": {
      split: sum(len(r["text"]) for r in rows)
      for split, rows in records.items()
    },
    "pairs": len(pairs),
    "examples": {split: len(rows) for split, rows in task.items()},
    "classes": module_task.classes(records),
  }


def _texts(records) -> list[str]:
  return [r["text"] for r in records]


def _put(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]):
  lines = (json.dumps(dict(r), ensure_ascii=False) + "\n" for r in rows)
  wanted = "".join(lines).encode()
  if path.exists():
    if path.read_bytes() != wanted:
      raise errors.UserError(
        f"'{path}' is already there and holds other text, perhaps of another "
        "Python version. Move it away or choose another folder: it is not "
        "overwritten."
      )
    return path
  with files.replacing(path, "wb") as file:
    file.write(wanted)
  return path
