"""Vectors from a file of fastText, or of any other program in its form."""

import dataclasses
import pathlib
from typing import Any

from jaxlm import errors, files
from jaxlm.data.vectors import _fasttext_files, vectors

_TEXT, _MODEL = (".vec", ".txt"), (".bin",)


@vectors.register(
  "file", paper="arXiv:1607.04606", example={"path": "cc.en.300.bin"}
)
@dataclasses.dataclass(frozen=True)
class File:
  """A .vec file (a word and its numbers a line) or a .bin model.

  Attributes:
    path: ends in .vec, .txt or .bin, perhaps with .gz behind.
  """

  path: str

  def key(self) -> dict[str, Any]:
    """The file's hash."""
    return {"kind": "file", "sha256": files.sha256(self._found())}

  def make(self, documents, tokenizer, seed):
    """The vectors of the file; documents are not looked at."""
    del documents, tokenizer, seed
    path = self._found()
    if self._suffix() in _MODEL:
      return _fasttext_files.model(path)
    return _fasttext_files.TextVectors(path)

  def _found(self) -> pathlib.Path:
    path = pathlib.Path(self.path).expanduser()
    if not path.is_file():
      near = [p.name for p in path.parent.glob("*")]
      raise errors.UserError(
        f"data.vectors.path: no file '{path}'.{errors.nearest(path.name, near)}"
      )
    if self._suffix() not in (*_TEXT, *_MODEL):
      raise errors.UserError(
        f"data.vectors.path: '{path}' is of no known format. Known: "
        f"{', '.join((*_TEXT, *_MODEL))}, each also with .gz."
      )
    return path

  def _suffix(self) -> str:
    return pathlib.Path(self.path.removesuffix(".gz")).suffix
