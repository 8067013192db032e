"""Which implementation runs: chosen from tables, named by the caller, refused.

A table is one JSON file for a kind of device (`nvidia_h200.json`) or for a
whole platform (`gpu.json`), in `_tables/` or in the folder that the variable
PALLAS_KERNELS_TABLES names, which is asked first. A kind's table comes before
its platform's, and within one table the first entry that fits is taken::

  {"format": 1,
   "device": "NVIDIA H200",          # jax's device_kind, or gpu, tpu, cpu
   "entries": [
     {"op": "flash_attention",       # the op's function name
      "dtype": "bfloat16",           # of the data; null: any
      "width": 64,                   # `width_bucket` of head_dim; null: any
      "length": 512,                 # `length_bucket` of the keys; null: any
      "features": ["segments"],      # sorted, exactly these; null: any
      "bytes": null,                 # [low, high): bounds on `Case.bytes`,
                                     # high may be null; null: any
      "implementation": "triton",
      "choose": true,                # false: only tells the tile sizes of an
                                     # implementation that is asked for
      "blocks": {"block_q": 128},    # the backend's tile sizes; null: its own
      "source": {"kind": "measured", "date": "2026-11-30", "jax": "0.11.2",
                 "microseconds": {"triton": 61.0, "reference": 190.5}}}]}

A source is either `measured`: then the entry's implementation and the
reference must be among `microseconds`, and an entry to be chosen must be the
fastest of them, so that nothing slower than XLA's own code is ever chosen; or
`static`, with a `note` that says why. `python -m pallas_kernels.tune` writes
measured entries, made by `entry_of`.
"""

import dataclasses
import difflib
import functools
import importlib
import json
import os
import pathlib
import re
from collections.abc import Mapping

from pallas_kernels._platform import Device

FORMAT = 1
FOLDER = pathlib.Path(__file__).parent / "_tables"
VARIABLE = "PALLAS_KERNELS_TABLES"
INTERPRET = ":interpret"

# Where a kernel can run; a name that is not here runs anywhere.
RUNS_ON = {
  "triton": "gpu",
  "mosaic_gpu": "gpu",
  "cudnn": "gpu",
  "mosaic_tpu": "tpu",
}
# Those that Pallas can interpret on any device.
INTERPRETABLE = ("triton", "mosaic_gpu", "mosaic_tpu")

# Without a measurement, the reference form may make arrays up to this size.
REFERENCE_BYTES = 2**30

_KEY = ("op", "dtype", "width", "length", "features", "bytes")
_FIELDS = (*_KEY, "implementation", "choose", "blocks", "source")


@dataclasses.dataclass(frozen=True)
class Case:
  """What a choice depends on.

  Attributes:
    op: name of the op's function.
    dtype: of the data, such as 'bfloat16'.
    width: head_dim, or what the op counts as its width.
    length: number of keys, or the length of a sequence.
    features: names of what is asked for beyond the plain op.
    bytes: size of the largest array that the reference form makes and the
      kernels do not, on one device.
  """

  op: str
  dtype: str
  width: int
  length: int
  features: frozenset[str] = frozenset()
  bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Choice:
  """What runs, and why.

  Attributes:
    implementation: a plain name.
    interpret: run the kernel in Pallas' interpreter.
    blocks: tile sizes by name, or None for the backend's own.
    reason: a clause that says why.
  """

  implementation: str
  interpret: bool = False
  blocks: Mapping | None = None
  reason: str = ""


def select(
  name: str | None, case: Case, device: Device, known: Mapping[str, object]
) -> Choice:
  """What computes a call.

  Args:
    name: a name of `known`, with ':interpret' after it for a kernel run by
      Pallas' interpreter on any device; None picks by table.
    case: the call.
    device: what is compiled for, see `_platform.target`.
    known: the op's implementations; 'reference' is one.

  Raises:
    NotImplementedError: the name is unknown, or cannot run on `device`.
  """
  if name is None:
    return pick(case, device, known)
  plain, interpret = parse(case.op, name, known)
  refusal = None if interpret else refuse(plain, device)
  if refusal:
    raise NotImplementedError(f"{case.op}: {refusal}")
  blocks = nearest_blocks(plain, case, device)
  return Choice(plain, interpret, blocks, "it was asked for by name")


def pick(case: Case, device: Device, known: Mapping[str, object]) -> Choice:
  """The first entry that fits a case, in the tables of a device."""
  for table in tables(device):
    for entry in table["entries"]:
      name = entry["implementation"]
      if not entry["choose"] or name not in known or refuse(name, device):
        continue
      if fits(entry, case):
        return Choice(name, False, entry["blocks"], _reason(entry, device))
  return Choice("reference", False, None, f"no table knows {device}")


def names(known) -> tuple[str, ...]:
  """Implementations and, where Pallas interprets them, 'name:interpret'."""
  kernels = [name for name in known if name in INTERPRETABLE]
  return (*known, *(name + INTERPRET for name in kernels))


def parse(op: str, name: str, known) -> tuple[str, bool]:
  """('triton', True) of 'triton:interpret'.

  Raises:
    NotImplementedError: not a name of `known`, or not a kernel that Pallas
      interprets; with the nearest names.
  """
  valid = names(known)
  if name not in valid:
    near = difflib.get_close_matches(str(name), valid, 2, 0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise NotImplementedError(
      f"{op} '{name}' is not one of {', '.join(valid)}{hint}"
    )
  return name.removesuffix(INTERPRET), name.endswith(INTERPRET)


def refuse(name: str, device: Device) -> str | None:
  """Why an implementation cannot run on a device; None if it can."""
  wanted = RUNS_ON.get(name)
  if wanted in (None, device.platform):
    return None
  hint = (
    f"; '{name}{INTERPRET}' runs anywhere, slowly"
    if name in INTERPRETABLE
    else ""
  )
  return f"'{name}' needs a {wanted}, and this is compiled for {device}{hint}"


def load_backend(path: str):
  """The attribute 'module:name', imported when it is first needed.

  Raises:
    NotImplementedError: this jax lacks what the module imports.
  """
  module, _, name = path.partition(":")
  try:
    return getattr(importlib.import_module(module), name)
  except ImportError as error:
    raise NotImplementedError(
      f"{module} cannot be imported with this jax: {error}"
    ) from error


def from_plain(cls, plain: Mapping):
  """A frozen dataclass, whose fields may be such too, of plain data.

  Raises:
    ValueError: a field is missing or unknown.
  """
  fields = {field.name: field for field in dataclasses.fields(cls)}
  if unknown := set(plain) - set(fields):
    raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
  values = {
    name: from_plain(fields[name].type, value)
    if isinstance(value, Mapping)
    else value
    for name, value in plain.items()
  }
  try:
    return cls(**values)
  except TypeError as error:
    raise ValueError(f"{cls.__name__} of {dict(plain)}: {error}") from error


def length_bucket(length: int) -> int:
  """The power of two, 64 or more, that holds a length."""
  return max(64, 1 << (length - 1).bit_length())


def width_bucket(width: int) -> int:
  """The power of two, 16 or more, that holds a width."""
  return max(16, 1 << (width - 1).bit_length())


def fits(entry: Mapping, case: Case, *, any_length: bool = False) -> bool:
  """Whether an entry of a table speaks of a case."""
  wanted = {
    "op": case.op,
    "dtype": case.dtype,
    "width": width_bucket(case.width),
    "length": length_bucket(case.length),
    "features": sorted(case.features),
  }
  if any_length:
    del wanted["length"]
  low, high = entry["bytes"] or (0, None)
  return (
    case.bytes >= low
    and (high is None or case.bytes < high)
    and all(entry[key] in (None, value) for key, value in wanted.items())
  )


def nearest_blocks(name: str, case: Case, device: Device) -> Mapping | None:
  """Tile sizes of the entry for `name` of the nearest length, or None."""
  found = [
    entry
    for table in tables(device)
    for entry in table["entries"]
    if entry["implementation"] == name
    and entry["blocks"] is not None
    and fits(entry, case, any_length=True)
  ]
  wanted = length_bucket(case.length).bit_length()
  distance = lambda e: abs((e["length"] or 0).bit_length() - wanted)
  return min(found, key=distance)["blocks"] if found else None


def tables(device: Device) -> list[dict]:
  """The tables that speak of a device, first the one to be asked first."""
  folders = [FOLDER]
  if os.environ.get(VARIABLE):
    folders.insert(0, pathlib.Path(os.environ[VARIABLE]))
  paths = [
    folder / file_name(name)
    for name in dict.fromkeys((device.kind, device.platform))
    for folder in folders
  ]
  return [load(path) for path in paths if path.is_file()]


def file_name(device: str) -> str:
  """'nvidia_h200.json' of 'NVIDIA H200'."""
  return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_") + ".json"


def load(path) -> dict:
  """A table of a file.

  Raises:
    ValueError: it is not a table; see `validate`.
  """
  path = pathlib.Path(path)
  return _load(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _load(path, changed) -> dict:
  del changed  # a table that was written anew is read anew
  try:
    table = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{path} is not JSON: {error}") from error
  validate(table, str(path))
  return table


def save(table: Mapping, folder=FOLDER) -> pathlib.Path:
  """Writes a table under its device's name; the file.

  Raises:
    ValueError: it is not a table; see `validate`.
  """
  validate(table, "the table")
  path = pathlib.Path(folder) / file_name(table["device"])
  path.parent.mkdir(parents=True, exist_ok=True)
  entries = ",\n".join("    " + json.dumps(e) for e in table["entries"])
  head = f'  "format": {FORMAT},\n  "device": {json.dumps(table["device"])},\n'
  body = f'  "entries": [\n{entries}\n  ]\n' if entries else '  "entries": []\n'
  path.write_text("{\n" + head + body + "}\n", encoding="utf-8")
  return path


def entry_of(
  case: Case,
  implementation: str,
  blocks: Mapping | None,
  source: Mapping,
  *,
  choose: bool = True,
) -> dict:
  """An entry for the buckets of a case.

  The reference is chosen only where its largest array is small enough:
  nobody measured that a larger one fits.
  """
  return {
    "op": case.op,
    "dtype": case.dtype,
    "width": width_bucket(case.width),
    "length": length_bucket(case.length),
    "features": sorted(case.features),
    "bytes": [0, REFERENCE_BYTES] if implementation == "reference" else None,
    "implementation": implementation,
    "choose": choose,
    "blocks": None if blocks is None else dict(blocks),
    "source": dict(source),
  }


def merge(table: Mapping, entries) -> dict:
  """The table with entries added, which replace those for the same case."""

  def key(entry):
    place = [entry[name] for name in _KEY if name != "bytes"]
    rest = entry["bytes"] if entry["source"]["kind"] == "static" else None
    return json.dumps(
      [*place, rest, None if entry["choose"] else entry["implementation"]]
    )

  new = {key(entry): entry for entry in entries}
  old = [entry for entry in table["entries"] if key(entry) not in new]
  return {**table, "entries": [*new.values(), *old]}


def validate(table: Mapping, where: str) -> None:
  """Checks a table against the format above.

  Raises:
    ValueError: what is wrong, and in which entry.
  """
  if not isinstance(table, Mapping) or set(table) != {
    "format",
    "device",
    "entries",
  }:
    raise ValueError(f"{where}: a table has format, device and entries")
  if table["format"] != FORMAT:
    raise ValueError(f"{where}: format {table['format']} is not {FORMAT}")
  if not isinstance(table["device"], str) or not table["device"]:
    raise ValueError(f"{where}: device is {table['device']!r}")
  for number, entry in enumerate(table["entries"]):
    problem = _problem(entry)
    if problem:
      raise ValueError(f"{where}, entry {number}: {problem}")


def _problem(entry) -> str | None:
  if not isinstance(entry, Mapping) or set(entry) != set(_FIELDS):
    return f"an entry has exactly {', '.join(_FIELDS)}"
  for name in ("op", "implementation"):
    if not isinstance(entry[name], str):
      return f"{name} is {entry[name]!r}"
  for name, bucket in (("width", width_bucket), ("length", length_bucket)):
    value = entry[name]
    if value is not None and (type(value) is not int or bucket(value) != value):
      return f"{name} {value!r} is no bucket"
  features = entry["features"]
  if features is not None and features != sorted(set(features)):
    return f"features {features} are not sorted"
  if entry["bytes"] is not None and len(entry["bytes"]) != 2:
    return f"bytes are {entry['bytes']!r}"
  if type(entry["choose"]) is not bool:
    return f"choose is {entry['choose']!r}"
  if not isinstance(entry["blocks"], Mapping | None):
    return f"blocks are {entry['blocks']!r}"
  return _source_problem(entry)


def _source_problem(entry) -> str | None:
  source, name = entry["source"], entry["implementation"]
  kind = source.get("kind") if isinstance(source, Mapping) else None
  if kind == "static":
    return None if source.get("note") else "a static source needs a note"
  if kind != "measured":
    return "the source is neither measured nor static"
  if not {"date", "jax", "microseconds"} <= set(source):
    return "a measured source has date, jax and microseconds"
  times = source["microseconds"]
  if not {name, "reference"} <= set(times):
    return f"{name} and reference must both have been measured"
  if entry["choose"] and times[name] > min(times.values()):
    return f"{name} is not the fastest of {times}"
  return None


def _reason(entry, device) -> str:
  source = entry["source"]
  if source["kind"] == "static":
    return f"on {device}, unmeasured: {source['note']}"
  times = source["microseconds"]
  factor = times["reference"] / times[entry["implementation"]]
  return (
    f"measured on {device}: {factor:.2f} x the speed of the reference "
    f"({source['date']}, jax {source['jax']})"
  )
