"""Claims of papers on what to minimise, at the size of a laptop.

  python -m benchmarks.claims --study=masking --shared=../shared/data \
      --json=masking.json

A study trains its contenders on TinyStories from the same seeds, with the same
layers, vocabulary, optimizer and rows, and asks all of them the same: losses
on held-out text, and frozen states (`_probes`). `--json` keeps what was done,
so that a run that was cut off goes on. Results stand in docs/claims.md.
"""

import argparse
import dataclasses
import functools
import gzip
import json
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _machine, _probes, _training
from configs import bart, common
from jaxlm import configuration, errors, recipe
from jaxlm.data import datasets, pmi, sources
from jaxlm.data.corruption import corruptions
from jaxlm.objectives import base

MASKS = dict(mask=1.0, random=0.0, keep=0.0, count="exact")
WIDTH = 64


@dataclasses.dataclass(frozen=True)
class Study:
  """One table.

  Attributes:
    contenders: args -> {name: changes of `ordinary`, see `config_of`}.
    measures: each (Trained, args) -> {column: number}.
    equal: "steps", or "flops": of the dearest contender.
  """

  contenders: Callable[[Any], dict[str, Mapping[str, Any]]]
  measures: tuple[Callable[..., Mapping[str, float]], ...]
  equal: str = "steps"


@dataclasses.dataclass(frozen=True)
class Trained:
  """A contender after one seed."""

  config: Mapping[str, Any]
  prepared: Any
  runner: _training.Runner
  state: Any
  final: Mapping[str, float]

  def reader(self) -> _probes.Reader:
    """What reads texts with it."""
    known = {**self.prepared.facts, "pieces": self.prepared.tokenizer.pieces}
    spec = recipe.model_spec(self.config, known)
    return _probes.Reader(spec, self.state.params, self.prepared.tokenizer)


def ordinary(args) -> dict[str, Any]:
  """A masked LM: two layers 64 wide, running text, 15% hidden."""
  data = dict(
    kind="packed",
    files=str(args.files),
    length=args.length,
    validation_share=0.1,
    arrangement=dict(kind="blocks", unit="tokens"),
    corruption=dict(kind="masking", rate=0.15, **MASKS),
    evaluation_corruption=dict(kind="masking", rate=0.15, **MASKS),
  )
  return configuration.complete(common.base()) | dict(
    steps=args.steps,
    batch_size=args.rows,
    clip_norm=1.0,
    data=data,
    tokenizer=dict(kind="wordpiece", vocab_size=args.vocabulary),
    model=_encoder(WIDTH, 4, masked_lm=dict(kind="masked_lm")),
    objective=dict(kind="masked_lm"),
    optimizer=dict(kind="adamw", b2=0.98, eps=1e-6, weight_decay=0.01)
    | dict(learning_rate=args.rate),
    schedule=dict(kind="constant", warmup=0.1),
  )


def _encoder(width: int, heads: int, **outputs) -> dict[str, Any]:
  """Two layers whose attention turns with positions.

  With positions at the input alone so small a model stays at the entropy of
  single tokens for a thousand steps (docs/benchmarks.md, architectures).
  """
  layer = dict(
    block=dict(kind="pre_norm"),
    mixer=dict(kind="attention", heads=heads, positions=dict(kind="rotary")),
    feedforward=dict(kind="gated", hidden=3 * width, activation="gelu"),
  )
  table = dict(kind="token", types=2)
  if width != WIDTH:
    table = dict(kind="factorized", types=2, table_width=WIDTH)
  return dict(
    kind="encoder",
    width=width,
    embeddings=table,
    positions=dict(kind="none"),
    norm=dict(kind="layer_norm"),
    input_norm=True,
    final_norm=True,
    layers=dict(layer=layer),
    order=("layer",),
    depth=2,
    stack=dict(kind="scan"),
    heads=outputs,
    initializer=dict(std=0.08, truncated=True),
  )


def _hiding(args, hidden, predicted=None, unit="uniform", **more):
  """Changes of `ordinary`: other shares and units."""
  unit = dict(kind=unit, **more)
  corruption = dict(kind="masking", rate=hidden, unit=unit, **MASKS)
  copies = 1
  if predicted is not None:
    corruption["predict_rate"] = predicted
    copies = corruptions.build(corruption).copies(args.length)
  return dict(data=dict(corruption=corruption), batch_size=copies * args.rows)


def _rates(args):
  return {f"{rate:.0%}": _hiding(args, rate) for rate in (0.15, 0.2, 0.4, 0.8)}


def _two_rates(args):
  pairs = ((0.4, 0.2), (0.4, 0.4), (0.2, 0.2), (0.2, 0.4), (0.1, 0.4))
  found = {f"{c:.0%} hidden, {p:.0%} predicted": (c, p) for c, p in pairs}
  return {name: _hiding(args, *pair) for name, pair in found.items()}


def _units(args):
  table = args.folder / "pmi.tsv"
  if not table.exists():
    found = pmi.build(sources.documents(str(args.files)), min_count=5)
    pmi.write(found, table)
  listed = dict(pmi=dict(vocabulary=str(table)))
  return {
    f"{unit}, {rate:.0%}": _hiding(
      args, rate, unit=unit, **listed.get(unit, {})
    )
    for rate in (0.15, 0.4)
    for unit in ("uniform", "span", "pmi")
  }


def _towers(args):
  """MLM, and a discriminator of the same shape with half as wide a partner."""
  generator = _encoder(WIDTH // 2, 2, masked_lm=dict(kind="masked_lm"))
  judge = _encoder(WIDTH, 4, replaced_token=dict(kind="replaced_token"))
  model = dict(
    kind="two_tower",
    sharing="shared",
    towers=dict(generator=generator, discriminator=judge),
  )
  masking = dict(kind="masking", rate=0.15, mask=0.85, random=0.0, keep=0.15)
  return {
    "masked LM": dict(),
    "ELECTRA": dict(
      model=model,
      data=dict(corruption=masking, evaluation_corruption=None),
      objective=dict(kind="replaced_token_detection", weight=50.0),
    ),
  }


def _noted(args):
  """BERT and TNF on the same rows, which tell of rare words."""
  data = dict(kind="noted", min_count=8, max_count=16, words=128, spans=16)
  notes = dict(words=128, share=0.5, rate=0.1, reach=8)
  model = _encoder(WIDTH, 4, masked_lm=dict(kind="masked_lm"))
  model |= dict(kind="note_taking_encoder", notes=notes)
  return {"BERT": dict(data=data), "TNF": dict(data=data, model=model)}


def _structured(args):
  """BERT and StructBERT: masks of 15%, pairs of sentences."""
  hidden = dict(rate=0.15, **MASKS)
  word = dict(kind="word_structure", masking=hidden, shuffle=0.05)
  relations = ("next", "previous", "random")

  def pair(relations, corruption):
    heads = dict(
      masked_lm=dict(kind="masked_lm"),
      next_sentence=dict(kind="classify", classes=len(relations), dropout=0.0),
    )
    arrangement = dict(kind="pairs", relations=relations)
    return dict(
      model=_encoder(WIDTH, 4, **heads),
      objective=dict(kind="masked_lm_next_sentence"),
      data=dict(
        files=str(_one_sentence_a_line(args)),
        arrangement=arrangement,
        corruption=corruption,
        evaluation_corruption=word,
      ),
    )

  masking = dict(kind="masking", **hidden)
  return {
    "BERT": pair(("next", "random"), masking),
    "three relations alone": pair(relations, masking),
    "StructBERT": pair(relations, word),
  }


def _denoised(args):
  """BART's denoising of E2S2's rows, and E2S2."""
  config = bart.get_config("tiny")
  common.steady(config.model)
  model = config.model.to_dict()
  heads = dict(corruption=dict(kind="tag", classes=3))
  infilling = dict(rate=0.15, mean_span=3.0)
  noise = dict(kind="e2s2", infilling=infilling, shuffle=0.05, replace=0.05)
  data = dict(corruption=noise, evaluation_corruption=None)
  data |= dict(arrangement=dict(kind="blocks"))
  shared = dict(data=data)
  encoder = model | dict(encoder_heads=heads)
  return {
    "BART": shared | dict(model=model, objective=dict(kind="seq2seq")),
    "E2S2, one view": shared
    | dict(
      model=encoder, objective=dict(kind="e2s2", infilled=0.0, contrast=0.0)
    ),
    "E2S2": shared | dict(model=encoder, objective=dict(kind="e2s2")),
  }


def _one_sentence_a_line(args) -> pathlib.Path:
  """The text cut after full stops, for the arrangement `pairs`."""
  path = args.folder / "sentences.txt"
  if not path.exists():
    text = args.files.read_text(encoding="utf-8")
    for end in ('."', '!"', '?"', ".", "!", "?"):
      text = text.replace(f"{end} ", f"{end}\n")
    path.write_text(text, encoding="utf-8")
  return path


def final(trained: Trained, args) -> dict[str, float]:
  """Held-out losses and metrics."""
  return {k: v for k, v in trained.final.items() if np.isfinite(v)}


def probes(trained: Trained, args) -> dict[str, float]:
  """What frozen states know."""
  reader = trained.reader()
  return {
    "word classes": _probes.word_classes(reader, args.shared),
    "sentiment": _probes.sentiment(reader, args.shared),
  }


def near_notes(trained: Trained, args) -> dict[str, float]:
  """Held-out loss of what is within 8 tokens of a rare word, and elsewhere."""
  plan, sums = trained.runner.plan, np.zeros((2, 2))
  variables = {"params": trained.state.params, **trained.state.extra}
  apply = jax.jit(
    lambda v, batch: _losses(plan.model.apply(v, batch)["masked_lm"], batch)
  )
  for step in range(args.batches):
    batch = plan.validation.batch_at(0, step)
    rare = np.asarray(batch["note_ids"]) > 0
    near = rare.copy()
    for shift in range(1, 9):
      near[:, shift:] |= rare[:, :-shift]
      near[:, :-shift] |= rare[:, shift:]
    losses = np.asarray(apply(variables, batch))
    places, weights = batch["predict_positions"], batch["predict_weights"]
    there = np.take_along_axis(near, places, axis=1)
    for group in (0, 1):
      chosen = weights * (there == bool(group))
      sums[group] += (np.sum(losses * chosen), np.sum(chosen))
  found = sums[:, 0] / np.maximum(sums[:, 1], 1)
  return {"loss near rare words": found[1], "elsewhere": found[0]}


def _losses(logits, batch):
  """float32 [batch, predictions]."""
  logits = jax.nn.log_softmax(logits.astype(jnp.float32))
  ids = batch["predict_ids"][..., None]
  return -jnp.take_along_axis(logits, ids, axis=-1)[..., 0]


def order(trained: Trained, args) -> dict[str, float]:
  """Of tokens that were moved, those put right; loss of hidden ones."""
  plan, sums = trained.runner.plan, np.zeros(4)
  mask = trained.prepared.tokenizer.mask_id
  variables = {"params": trained.state.params}

  @jax.jit
  def apply(variables, batch):
    logits = base.output(plan.model.apply(variables, batch), "masked_lm")
    return _losses(logits, batch), jnp.argmax(logits, axis=-1)

  for step in range(args.batches):
    batch = plan.validation.batch_at(0, step)
    losses, said = map(np.asarray, apply(variables, batch))
    read = np.take_along_axis(
      batch["inputs"], batch["predict_positions"], axis=1
    )
    weights = batch["predict_weights"]
    hidden = weights * (read == mask)
    moved = weights * (read != mask) * (read != batch["predict_ids"])
    right = moved * (said == batch["predict_ids"])
    sums += (losses * hidden).sum(), hidden.sum(), right.sum(), moved.sum()
  return {"masked loss": sums[0] / sums[1], "moved, right": sums[2] / sums[3]}


STUDIES = {
  "masking": Study(_rates, (final, probes)),
  "masking_rates": Study(_two_rates, (final, probes)),
  "masking_units": Study(_units, (final, probes)),
  "rtd": Study(_towers, (final, probes), equal="flops"),
  "notes": Study(_noted, (final, near_notes, probes)),
  "structure": Study(_structured, (final, order, probes)),
  "e2s2": Study(_denoised, (final,)),
}


def config_of(changes: Mapping[str, Any], args) -> dict[str, Any]:
  """`ordinary` with a contender's changes: keys of `data`, all else whole."""
  config = ordinary(args)
  return config | changes | dict(data=config["data"] | changes.get("data", {}))


def prepare(config, args):
  """The data; all contenders of the same rows share a cache."""
  rows = json.dumps(
    {k: v for k, v in config["data"].items() if "corruption" not in k},
    sort_keys=True,
    default=str,
  )
  names = args.folder / "rows.json"
  known = json.loads(names.read_text()) if names.exists() else []
  if rows not in known:
    names.write_text(json.dumps([*known, rows]))
    known.append(rows)
  return datasets.build(config["data"]).prepare(
    tokenizer=config["tokenizer"],
    workdir=args.folder / f"rows{known.index(rows)}",
    batch_size=config["batch_size"],
    seed=0,
    report=lambda line: None,
  )


def run(study: Study, args, done: list[dict], keep: Callable) -> list[dict]:
  """All contenders that are not done, appended as each ends."""
  found = study.contenders(args)
  found = {name: config_of(changes, args) for name, changes in found.items()}

  @functools.cache
  def made(name):
    prepared = prepare(found[name], args)
    return prepared, _training.Runner(found[name], prepared, args)

  dearest = None
  if study.equal == "flops":
    dearest = max(made(name)[1].flops for name in found)
  for name, config in found.items():
    if any(r["name"] == name for r in done):
      continue
    prepared, runner = made(name)
    steps = args.steps
    if dearest is not None:
      steps = round(steps * dearest / runner.flops)
    print(f"{name}, {steps} steps ...", file=sys.stderr, flush=True)
    seeds = []
    for seed in range(args.seeds):
      state, last = runner.trained(seed, steps)
      trained = Trained(config, prepared, runner, state, last)
      seeds.append({})
      for measure in study.measures:
        seeds[-1] |= {k: float(v) for k, v in measure(trained, args).items()}
    done.append(
      dict(name=name, steps=steps, flops=steps * runner.flops, seeds=seeds)
    )
    keep(done)
  return done


def table(results: list[dict]) -> str:
  """One row a contender, one column a measure: mean ± deviation of seeds."""
  columns = list(dict.fromkeys(k for r in results for k in r["seeds"][0]))
  head = ["contender", "steps", "FLOPs", *columns]
  lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
  least = min(r["flops"] for r in results)
  for r in results:
    cells = [r["name"], f"{r['steps']}", f"{r['flops'] / least:.2f}x"]
    cells += [_cell([s.get(column) for s in r["seeds"]]) for column in columns]
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def _cell(values) -> str:
  if None in values:
    return "-"
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return f"{statistics.fmean(values):.3f} ± {spread:.3f}"


def arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("--study", required=True, help=", ".join(STUDIES))
  parser.add_argument("--shared", type=pathlib.Path, required=True)
  parser.add_argument("--rows", type=int, default=16)
  parser.add_argument("--length", type=int, default=64)
  parser.add_argument("--vocabulary", type=int, default=1024)
  parser.add_argument("--rate", type=float, default=3e-3)
  parser.add_argument("--steps", type=int, default=600)
  parser.add_argument("--batches", type=int, default=16)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--json", default="", help="where numbers are kept")
  args = parser.parse_args(argv)
  if args.study not in STUDIES:
    parser.error(str(errors.unknown("No study is", args.study, STUDIES)))
  args.every = args.steps  # of `_training.Runner`
  return args


def main(argv=None) -> None:
  """Runs a study and prints its table."""
  args = arguments(argv)
  kept = pathlib.Path(args.json) if args.json else None
  done = json.loads(kept.read_text()) if kept and kept.exists() else []
  stories = args.shared / "text/tinystories/train.txt.gz"
  if not stories.is_file():
    raise SystemExit(f"--shared: there is no {stories}")

  def keep(results):
    if kept:
      kept.write_text(json.dumps(results))

  with tempfile.TemporaryDirectory() as folder:
    args.folder = pathlib.Path(folder)
    args.files = args.folder / "stories.txt"
    args.files.write_bytes(gzip.decompress(stories.read_bytes()))
    results = run(STUDIES[args.study], args, done, keep)
  print(
    f"{_machine.named()}; study {args.study}, {args.rows} rows "
    f"of {args.length} tokens, {args.seeds} seeds"
  )
  print(table(results))


if __name__ == "__main__":
  main()
