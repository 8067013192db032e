"""The other side of `data.py`: `datasets` and `transformers`, as run_mlm.py.

Runs as a program of its own, because PyTorch and TensorFlow seldom share an
environment: `python _hf_data.py SPEC.json` prints one line of JSON. The two
modes are those of the example script: texts put end to end and cut into full
rows (its default), and `--line_by_line`, padded to the longest of a batch.
"""

import importlib.metadata
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"


def main(path):
  spec = json.loads(pathlib.Path(path).read_text())
  import datasets
  import torch
  import transformers

  datasets.disable_progress_bars()
  torch.set_num_threads(os.cpu_count())
  tokenizer = transformers.AutoTokenizer.from_pretrained(spec["tokenizer"])
  collator = transformers.DataCollatorForLanguageModeling(
    tokenizer, mlm_probability=spec["rate"]
  )
  out = {
    "versions": {
      name: importlib.metadata.version(name)
      for name in ("datasets", "transformers", "torch", "tokenizers")
    }
  }
  with tempfile.TemporaryDirectory() as cache:
    texts = datasets.load_dataset(
      "json", data_files=spec["texts"], split="train", cache_dir=cache
    )
    for mode in ("grouped", "line_by_line"):
      out[mode] = measure(texts, tokenizer, collator, spec, mode)
  print(json.dumps(out))


def measure(texts, tokenizer, collator, spec, mode):
  """Seconds and real tokens of the stages of one mode."""
  length = spec["length"]
  cut = (
    dict(truncation=True, max_length=length) if mode == "line_by_line" else {}
  )

  def tokenize(batch):
    return tokenizer(batch["text"], return_special_tokens_mask=True, **cut)

  def group(batch):
    joined = {k: list(itertools.chain(*v)) for k, v in batch.items()}
    total = len(joined["input_ids"]) // length * length
    return {
      k: [v[i : i + length] for i in range(0, total, length)]
      for k, v in joined.items()
    }

  started = time.perf_counter()
  ready = texts.map(tokenize, batched=True, remove_columns=["text"])
  tokens = sum(map(len, ready["input_ids"]))
  tokenized = time.perf_counter() - started
  started = time.perf_counter()
  if mode == "grouped":
    ready = ready.map(group, batched=True)
  prepared = time.perf_counter() - started
  return {
    "tokens": tokens,
    "tokenize": tokenized,
    "prepare": prepared,
    "feed": feed(ready, collator, spec),
  }


def feed(ready, collator, spec):
  """[(real tokens, seconds)] of each repetition."""
  import torch

  found = []
  for turn in range(spec["repeats"]):
    loader = torch.utils.data.DataLoader(
      ready,
      batch_size=spec["batch_size"],
      shuffle=True,
      collate_fn=collator,
      drop_last=True,
      generator=torch.Generator().manual_seed(turn),
    )
    batches = iter(loader)
    next(batches)
    tokens, started = 0, time.perf_counter()
    for batch in itertools.islice(batches, spec["steps"]):
      tokens += int(batch["attention_mask"].sum())
    found.append((tokens, time.perf_counter() - started))
  return found


if __name__ == "__main__":
  main(sys.argv[1])
