"""Tensors of a Hugging Face folder: safetensors, in one file or in shards."""

import importlib.util
import json
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors

from jaxlm import errors
from jaxlm.errors import UserError

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")


class Checkpoint:
  """Tensors by name, read when they are asked for.

  Attributes:
    folder: where they lie.
    shapes: name -> shape.
  """

  def __init__(self, folder):
    """Opens a folder.

    Raises:
      UserError: there are no weights, or a file is missing or damaged.
    """
    self.folder = pathlib.Path(folder)
    self._arrays: dict[str, np.ndarray] = {}
    self._files: dict[str, pathlib.Path] = {}
    self.shapes: dict[str, tuple[int, ...]] = {}
    if (self.folder / ONE).is_file():
      self._open(self.folder / ONE)
    elif (self.folder / INDEX).is_file():
      self._open_shards()
    elif any((self.folder / name).is_file() for name in TORCH):
      self._read_torch()
    else:
      raise UserError(
        f"'{self.folder}' holds no weights: expected {ONE} or {INDEX}, found "
        f"{_listing(self.folder)}."
      )

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, in the type of the file."""
    if name in self._arrays:
      return self._arrays[name]
    with safetensors.safe_open(self._files[name], framework="np") as file:
      return file.get_tensor(name)

  def where(self, name: str) -> pathlib.Path:
    """The file that holds a tensor."""
    return self._files[name]

  @property
  def weights(self) -> str:
    """What errors call the files."""
    files = sorted({str(path) for path in self._files.values()})
    return (
      files[0] if len(files) == 1 else f"{self.folder} ({len(files)} files)"
    )

  def _open(self, path):
    # numpy learns bfloat16 from this import.
    import ml_dtypes  # noqa: F401

    try:
      with safetensors.safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (it is not a dict)
          self._files[name] = path
          self.shapes[name] = tuple(file.get_slice(name).get_shape())
    except (safetensors.SafetensorError, OSError) as error:
      raise UserError(
        f"'{path}' is damaged or half-written: {error}. Copy or export it "
        "again."
      ) from error

  def _open_shards(self):
    index = self.folder / INDEX
    held = read_json(index).get("weight_map")
    if not isinstance(held, Mapping):
      raise UserError(f"'{index}' has no weight_map of tensors and files.")
    for shard in sorted(set(held.values())):
      if not (self.folder / shard).is_file():
        raise UserError(
          f"'{index}' names the file '{shard}', which is missing. Found: "
          f"{_listing(self.folder)}."
        )
      self._open(self.folder / shard)
    lost = sorted(set(held) - set(self._files))
    if lost:
      raise UserError(
        f"'{index}' names the tensor '{lost[0]}' (and {len(lost) - 1} more) "
        "that no file of the folder holds."
      )

  def _read_torch(self):
    path = self.folder / TORCH[0]
    if importlib.util.find_spec("torch") is None or not path.is_file():
      raise UserError(
        f"'{self.folder}' holds PyTorch's pickled weights, which are not read "
        f"here. Write {ONE} first, where PyTorch is installed: "
        'python -c "from transformers import AutoModel as M; '
        f"M.from_pretrained('{self.folder}').save_pretrained('converted')\" "
        "(with the class that has your head, such as AutoModelForMaskedLM)."
      )
    import torch

    for name, tensor in torch.load(
      path, map_location="cpu", weights_only=True
    ).items():
      wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
      self._arrays[name] = wide.numpy()
      self._files[name] = path
      self.shapes[name] = tuple(tensor.shape)


def read_json(path, kind: type = dict):
  """A JSON object of a folder, or a value of another kind.

  Raises:
    UserError: the file is missing or is not JSON.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    folder = path.parent
    if not folder.is_dir():
      raise UserError(
        f"No folder '{folder}'."
        f"{errors.nearest(folder.name, _names(folder.parent))}"
      )
    raise UserError(
      f"'{folder}' is not a Hugging Face folder: no {path.name}. It holds "
      f"{_listing(folder)}."
    )
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise UserError(f"'{path}' is not JSON: {error}.") from error
  if not isinstance(found, kind):
    wanted = "an object" if kind is dict else f"a {kind.__name__}"
    raise UserError(f"'{path}' holds {type(found).__name__}, not {wanted}.")
  return found


def _names(folder) -> list[str]:
  return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def _listing(folder) -> str:
  names = _names(folder)
  shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
  return shown or "nothing"
