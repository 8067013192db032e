"""Every shipped config's data, pointed at a small text that tests write."""

import importlib
import itertools
import re

import numpy as np

from jaxlm import configuration


def spec(name: str) -> tuple[dict, dict]:
  """The data of a config, and its tokenizer made small."""
  config = configuration.complete(configuration.load(name))
  tokenizer = config["tokenizer"] or dict(kind="wordpiece", lowercase=False)
  return config["data"], dict(tokenizer, vocab_size=320)


def variants() -> dict[str, str]:
  """{name:variant of every shipped config: kind of its data}."""
  found = {}
  for path in sorted(configuration.SHIPPED.glob("*.py")):
    module = importlib.import_module(f"configs.{path.stem}")
    sizes = list(getattr(module, "SIZES", ()))
    for size in ["tiny"] if "tiny" in sizes else sizes:
      name = f"{path.stem}:{size}"
      found[name] = module.get_config(size).data.kind
  return found


def write(folder, data):
  """The data with a text to read: words of the syllables of its source."""
  rng = np.random.default_rng(0)
  if "sources" in data:
    sources = {}
    for source, own in data["sources"].items():
      file = folder / f"{source}.txt"
      file.write_text(prose(rng, "aeiou" if len(sources) else "bdgkl"))
      sources[source] = own | dict(files=str(file), validation_share=0.1)
    return data | dict(sources=sources)
  if data["kind"] == "labelled":
    return data | labelled(rng, folder, data)
  file = folder / "text.txt"
  file.write_text(prose(rng, "bdgkl"))
  share = dict(share=0.05) if "share" in data else {}
  return data | share | dict(files=str(file), validation_share=0.1)


def words(rng, first: str, count: int) -> list[str]:
  """Words that begin with one of these letters, few of them often."""
  at = np.minimum(rng.zipf(1.4, count), 120).tolist()
  rest = ["".join(p) for p in itertools.product("mnrst", "aeiou", "mnrst")]
  return [f"{first[i % len(first)]}{'aeiou'[i % 4]}{rest[i]}" for i in at]


def prose(rng, first: str) -> str:
  """Documents of sentences, a line each."""
  return "\n\n".join(
    "\n".join(" ".join(words(rng, first, 12)) + "." for _ in range(8))
    for _ in range(60)
  )


def labelled(rng, folder, data) -> dict:
  """Rows whose labels can be read off their text."""
  file = folder / "rows.tsv"
  lines = []
  for size in rng.integers(3, 20, 80):
    row = words(rng, "bdgkl", size)
    lines += {
      "classification": [f"{' '.join(row)}\t{row[0][0]}"],
      "regression": [f"{' '.join(row)}\t{size}"],
      "tagging": [*(f"{word}\tT{word[0]}" for word in row), ""],
    }[data["task"]]
  if data["task"] == "tagging":
    file = folder / "rows.conll"
    more = dict(text=0, label=1)
  else:
    more = dict(text="sentence", label="label")
    lines = ["sentence\tlabel", *lines]
  file.write_text("\n".join(lines) + "\n")
  return dict(more, files=str(file))


def written(data, folder) -> list[str]:
  """The texts to train on; of tagged words without the tags."""
  if hasattr(data, "texts"):
    return [text for split, text in data.texts() if split == "train"]
  files = [file.read_text() for file in sorted(folder.glob("*.*"))]
  return [re.sub(r"\tT\w$", "", text, flags=re.MULTILINE) for text in files]
