"""The manifest of a cache: what it was made from, and what it should hold."""

import json
from collections.abc import Mapping
from typing import Any

from jaxlm import files
from jaxlm.errors import UserError

FORMAT = 1
ROWS_PER_SHARD = 1 << 16


def key(
  sources: Mapping[str, list[Mapping[str, Any]]],
  tokenizer_sha256: str,
  arrangement: Mapping[str, Any],
  width: int,
  rows_per_shard: int = ROWS_PER_SHARD,
  **reading,
) -> dict[str, Any]:
  """Everything that the bytes of a cache depend on.

  Args:
    sources: role -> `jaxlm.data.sources.fingerprint` of its files.
    tokenizer_sha256: which vocabulary.
    arrangement: its spec.
    width: tokens of a row.
    rows_per_shard: rows of all shards but the last.
    **reading: how documents are read and split (format, field, share ...).
  """
  return {
    "sources": {
      role: [{k: f[k] for k in ("name", "bytes", "sha256")} for f in found]
      for role, found in sources.items()
    },
    "tokenizer": tokenizer_sha256,
    "arrangement": dict(arrangement),
    "width": width,
    "rows_per_shard": rows_per_shard,
    "reading": reading,
  }


def differences(found: Mapping, wanted: Mapping, at: str = "") -> list[str]:
  """Sentences on where two keys differ, empty where they agree."""
  found, wanted = _plain(found), _plain(wanted)
  out = []
  for name in sorted(set(found) | set(wanted)):
    a, b = found.get(name), wanted.get(name)
    path = f"{at}.{name}" if at else name
    if a == b:
      continue
    if path == "sources":
      out.extend(_source_differences(a, b))
    elif isinstance(a, dict) and isinstance(b, dict):
      out.extend(differences(a, b, path))
    else:
      out.append(f"{path} was {_short(a)}, the config gives {_short(b)}")
  return out


def _source_differences(found, wanted) -> list[str]:
  out = []
  for role in sorted(set(found) | set(wanted)):
    a = {f["name"]: f["sha256"] for f in found.get(role, ())}
    b = {f["name"]: f["sha256"] for f in wanted.get(role, ())}
    gone, new = sorted(set(a) - set(b)), sorted(set(b) - set(a))
    changed = sorted(n for n in set(a) & set(b) if a[n] != b[n])
    for what, names in (
      ("no longer given", gone),
      ("not in the cache", new),
      ("changed since", changed),
    ):
      if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        out.append(f"{role} {what}: {', '.join(names[:3])}{more}")
  return out or ["sources come in another order"]


def write(folder, key, splits) -> None:
  manifest = _plain({"format": FORMAT, "key": key, "splits": splits})
  manifest["sha256"] = files.digest(manifest)
  files.write_json(folder / "manifest.json", manifest)


def read(folder) -> dict[str, Any]:
  path = folder / "manifest.json"
  try:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    claimed = manifest.pop("sha256")
  except FileNotFoundError:
    raise UserError(
      f"'{folder}' has no manifest.json: it is half-written or no cache. "
      f"{remedy(folder)}"
    ) from None
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise UserError(
      f"'{path}' is damaged ({error}). {remedy(folder)}"
    ) from None
  if manifest.get("format") != FORMAT:
    raise UserError(
      f"'{path}' is of format {manifest.get('format')}; this version reads "
      f"format {FORMAT}. {remedy(folder)}"
    )
  if files.digest(manifest) != claimed:
    raise UserError(
      f"'{path}' is damaged (it does not match its own sha256). "
      f"{remedy(folder)}"
    )
  return manifest | {"sha256": claimed}


def check_file(folder, array, verify) -> None:
  path = folder / array["file"]
  if not path.is_file():
    raise UserError(f"The cache lacks '{path}'. {remedy(folder)}")
  size = path.stat().st_size
  if size != array["bytes"]:
    raise UserError(
      f"'{path}' has {size} bytes, the manifest says {array['bytes']}: it is "
      f"half-written or damaged. {remedy(folder)}"
    )
  if verify and files.sha256(path) != array["sha256"]:
    raise UserError(
      f"'{path}' is damaged (its sha256 is not the manifest's). "
      f"{remedy(folder)}"
    )


def remedy(folder) -> str:
  return (
    f"Delete the folder '{folder}' and prepare again, or choose another "
    "workdir."
  )


def _plain(value):
  """As JSON would give it back."""
  return json.loads(json.dumps(value))


def _short(value) -> str:
  text = str(value)
  return text if len(text) <= 60 else text[:12] + "..."
