"""Tokens/s of tokenizing, preparing and feeding; beside Hugging Face's way.

  python -m benchmarks.data                     # jaxlm alone
  python -m benchmarks.data --pipelines         # feeding, of every config
  python -m benchmarks.data --hf_python=.venv-hf/bin/python

The second line also runs `datasets` with DataCollatorForLanguageModeling on
the same texts with the same vocabulary, in the environment of that Python
(it needs datasets, transformers and torch), and prints ratios. The texts are
the demo's: the documentation that every Python carries, `--copies` times.
Only real tokens count, padding does not.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import _pipelines
from jaxlm.data import cache, packed, sources, tasks, tokenizers
from jaxlm.data.corruption import corruptions
from jaxlm.demo import corpus

RATE = 0.15


def main():
  args = arguments()
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    if args.pipelines:
      return pipelines(folder, args)
    spec = inputs(folder, args)
    ours = jaxlm(folder, spec)
    theirs = hugging_face(folder, spec, args.hf_python)
  print(machine(theirs))
  print(
    f"{spec['documents']:,} documents, length {args.length}, batch "
    f"{args.batch_size}, {args.steps} batches, {args.repeats} repetitions; "
    "thousands of real tokens a second"
  )
  print(table(ours, theirs))
  if args.consumed:
    rate = statistics.median(ours["feed, uniform"])
    print(
      f"A step that takes {args.consumed:,.0f} tokens/s is fed "
      f"{rate / args.consumed:,.0f} times as fast as it takes them."
    )


def pipelines(folder, args):
  """Prints tokens a second of a core for the data of every config."""
  text = folder / "text.txt"
  documents = (r["text"].replace(". ", ".\n") for r in corpus.collect())
  lines = ("\n".join(filter(str.strip, d.split("\n"))) for d in documents)
  text.write_text("\n\n".join(lines))
  found = _pipelines.feeds(folder, text, args)
  print(machine(None))
  print(
    f"length {args.length}, batch {args.batch_size}, {args.steps} batches, "
    f"{args.repeats} repetitions; thousands a second of CPU time"
  )
  print("| data of | tokens | places, padding too |\n|---|---|---|")
  middle = lambda name: statistics.median(f.places for f in found[name])
  order = sorted(found, key=middle)
  for name in order:
    print(f"| {name} | {' | '.join(map(spread, zip(*found[name])))} |")
  taken = args.peak * args.mfu / 6 / args.parameters
  print(
    f"A model of {args.parameters:,} parameters at {args.mfu:.0%} of "
    f"{args.peak / 1e12:,.0f} TFLOP/s takes {taken:,.0f} places/s: "
    f"{taken / middle(order[0]):.2f} cores of the slowest."
  )


def arguments():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--length", type=int, default=128)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--steps", type=int, default=40)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--copies", type=int, default=2, help="of the texts")
  parser.add_argument("--vocab_size", type=int, default=8192)
  parser.add_argument(
    "--hf_python", default=sys.executable, help="a Python with datasets"
  )
  parser.add_argument("--pipelines", action="store_true")
  parser.add_argument("--parameters", type=int, default=110_000_000)
  parser.add_argument("--peak", type=float, default=989e12, help="an H200's")
  parser.add_argument("--mfu", type=float, default=0.5)
  parser.add_argument(
    "--consumed",
    type=float,
    default=0,
    help="tokens/s of a training step (train_step.py), to compare with",
  )
  args = parser.parse_args()
  args.turns = range(args.repeats)
  return args


def inputs(folder, args):
  """Writes the texts and the vocabulary that both sides read."""
  texts = [record["text"] for record in corpus.collect()]
  tokenizer = tokenizers.train(
    {"kind": "wordpiece", "vocab_size": args.vocab_size}, texts
  )
  tokenizer.save_hf(folder / "tokenizer", model_max_length=10**9)
  path = folder / "texts.jsonl"
  with path.open("w") as file:
    for copy in range(args.copies):
      for text in texts:  # not the same text twice: caches must not help
        file.write(json.dumps({"text": f"{text} {copy}"}) + "\n")
  return {
    "texts": str(path),
    "tokenizer": str(folder / "tokenizer"),
    "documents": args.copies * len(texts),
    "rate": RATE,
    "length": args.length,
    "batch_size": args.batch_size,
    "steps": args.steps,
    "repeats": args.repeats,
  }


def jaxlm(folder, spec):
  """{stage: [tokens/s]} of ours."""
  tokenizer = tokenizers.train({"kind": "file", "path": spec["tokenizer"]}, ())
  texts = list(sources.documents(spec["texts"]))
  found = {"tokenize": [], "prepare (read, tokenize, pack, write)": []}
  for turn in range(spec["repeats"]):
    started = time.perf_counter()
    tokens = sum(map(len, tokenizer.encode_batch(texts)))
    found["tokenize"].append(tokens / (time.perf_counter() - started))
    started = time.perf_counter()
    data = packed.Packed(
      files=spec["texts"], length=spec["length"], validation_share=0.0
    )
    _, made = data.build(
      tokenizer=tokenizer,
      workdir=folder / f"run{turn}",
      seed=0,
      report=lambda line: None,
    )
    seconds = time.perf_counter() - started
    found["prepare (read, tokenize, pack, write)"].append(tokens / seconds)
  for unit in ("uniform", "whole_word", "span"):
    found[f"feed, {unit}"] = feed(made, tokenizer, unit, spec)
  full = made.manifest["splits"]["train"]["packing"]["efficiency"]
  print(f"Rows are {full:.2%} full.")
  return found


def feed(made: cache.Cache, tokenizer, unit, spec):
  """Tokens/s of each repetition."""
  corruption = corruptions.build(
    {"kind": "masking", "rate": RATE, "unit": {"kind": unit}}
  )
  task = tasks.make(
    made,
    "train",
    corruption,
    tokenizer,
    batch_size=spec["batch_size"],
    length=spec["length"],
    name=unit,
  )
  task.batch_at(0, 0)
  found = []
  for turn in range(spec["repeats"]):
    tokens, started = 0, time.perf_counter()
    for step in range(spec["steps"]):
      tokens += int((task.batch_at(turn, step)["segments"] > 0).sum())
    found.append(tokens / (time.perf_counter() - started))
  return found


def hugging_face(folder, spec, python):
  """{"versions": ..., mode: ...} of `_hf_data.py`; None where it cannot run."""
  needed = "import datasets, torch, transformers"
  if subprocess.run([python, "-c", needed], capture_output=True).returncode:
    print(f"{python} lacks datasets, torch or transformers: jaxlm alone.")
    return None
  path = folder / "spec.json"
  path.write_text(json.dumps(spec))
  script = pathlib.Path(__file__).with_name("_hf_data.py")
  ran = subprocess.run(
    [python, str(script), str(path)], capture_output=True, text=True
  )
  if ran.returncode:
    sys.exit(f"The Hugging Face side failed:\n{ran.stderr}")
  return json.loads(ran.stdout.splitlines()[-1])


def table(ours, theirs):
  """Rows of stages: ours, theirs in both modes, ratios of medians."""
  modes = ("grouped", "line_by_line")
  head = ["stage", "jaxlm"]
  if theirs:
    head += [f"HF {m}" for m in modes] + [f"x {m}" for m in modes]
  lines = [head]
  for stage, rates in ours.items():
    line = [stage, spread(rates)]
    if theirs:
      other = [hf_rates(theirs[m], stage) for m in modes]
      line += [spread(rates_) for rates_ in other]
      line += [
        f"{statistics.median(rates) / statistics.median(rates_):.1f}"
        for rates_ in other
      ]
    lines.append(line)
  widths = [max(len(row[i]) for row in lines) for i in range(len(head))]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in lines
  )


def hf_rates(mode, stage):
  """Their tokens/s in the stage that does the same."""
  if stage == "tokenize":
    return [mode["tokens"] / mode["tokenize"]]
  if stage.startswith("prepare"):
    return [mode["tokens"] / (mode["tokenize"] + mode["prepare"])]
  return [tokens / seconds for tokens, seconds in mode["feed"]]


def spread(rates):
  """Median (lowest to highest), thousands a second."""
  middle = f"{statistics.median(rates) / 1e3:,.0f}"
  if len(rates) == 1:
    return middle
  return f"{middle} ({min(rates) / 1e3:,.0f} to {max(rates) / 1e3:,.0f})"


def machine(theirs):
  names = ("jax", "numpy", "tensorflow", "seqio", "tokenizers")
  versions = {n: importlib.metadata.version(n) for n in names}
  versions |= {
    f"HF {k}": v for k, v in (theirs or {"versions": {}})["versions"].items()
  }
  load = os.getloadavg()[0]
  return (
    f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores "
    f"(load {load:.1f}), Python {platform.python_version()}; "
    + ", ".join(f"{k} {v}" for k, v in versions.items())
  )


if __name__ == "__main__":
  main()
