"""What the commands do, as functions that a notebook can call."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxlm import configuration, errors, interop, loading, paths, recipe
from jaxlm.data import datasets, word_vectors
from jaxlm.data.prepared import Prepared
from jaxlm.evaluation import neighbours as nearest
from jaxlm.evaluation import predict
from jaxlm.reports import run_report
from jaxlm.training import checkpoint, cost, loop
from jaxlm.training import workdir as workdirs
from jaxlm.training.plan import TrainingPlan
from jaxlm.training.state import TrainState

Report = Callable[[str], None]


class Run(NamedTuple):
  """What is known before the first step.

  Attributes:
    config: the completed config.
    spec: the whole model spec.
    plan: what the training loop gets.
    data: the prepared data.
  """

  config: dict[str, Any]
  spec: dict[str, Any]
  plan: TrainingPlan
  data: Prepared

  @property
  def task(self) -> str | None:
    """'classification', 'regression', 'tagging', or None in pre-training."""
    return self.config["data"].get("task")


class Trained(NamedTuple):
  """What `train` leaves behind.

  Attributes:
    result: of the loop.
    metrics: final metrics on held-out data.
    export: facts of the Hugging Face folder, {} where none was written.
    report: path of report.html.
  """

  result: loop.Result
  metrics: Mapping[str, float]
  export: Mapping[str, Any]
  report: pathlib.Path


def prepare_data(config, workdir, *, report: Report = print) -> Prepared:
  """Makes the vocabulary and the cache that are missing.

  Raises:
    UserError: a mistake in the config or the data, or a workdir that belongs
      to another config.
  """
  config = configuration.complete(config)
  return _data(config, _start(config), workdir, report)


def prepare(config, workdir, *, report: Report = print) -> Run:
  """Reads the config, makes the data that are missing and builds the parts.

  Raises:
    UserError: as `prepare_data`, and parts that do not fit each other, the
      data or the devices.
  """
  join_processes()
  config = configuration.complete(config)
  start = _start(config)
  check(config, start)
  data = _data(config, start, workdir, report)
  start, data = _moved(start, data, report)
  known = {**data.facts, "pieces": data.tokenizer.pieces}
  spec = recipe.model_spec(config, known, start and start.spec)
  plan = recipe.build(
    config,
    spec=spec,
    train=data.train,
    validation=data.validation,
    facts=data.facts,
    params=start and _adapted(start, spec),
  )
  return Run(config, spec, plan, data)


def check(config: Mapping[str, Any], start=None) -> None:
  """Builds the parts on guessed sizes, so that mistakes show at once.

  Raises:
    UserError: an unknown key, kind or field anywhere in the config.
  """
  size = config["tokenizer"].get("vocab_size", 1)
  facts = {"vocab_size": start.spec["vocab_size"] if start else size}
  facts |= {"classes": ("a", "b")}
  spec = recipe.model_spec(config, facts, start and start.spec)
  spec["vocab_size"] = max(spec["vocab_size"], facts["vocab_size"])
  model = recipe.build_model(spec, config)
  recipe.check_packing(model, datasets.build(config["data"]))
  recipe.check_parts(config, model)


def train(config, workdir, *, report: Report = print, export=True) -> Trained:
  """Raw files to a trained, evaluated and exported model.

  Goes on from the newest checkpoint of the workdir if there is one.

  Args:
    config: a ConfigDict or plain dict.
    workdir: where all results go; see docs/design.md.
    report: takes lines about what is done or skipped.
    export: whether to write workdir/export.

  Raises:
    UserError: see `prepare` and `jaxlm.training.loop.train`.
  """
  workdir = pathlib.Path(workdir)
  run = prepare(config, workdir, report=report)
  lead = jax.process_index() == 0
  if lead:
    loading.describe(
      workdir,
      run.spec,
      labels=run.data.facts.get("classes", ()),
      task=run.task,
      facts=run.data.facts,
    )
  result = loop.train(run.plan, workdir)
  if result.reason in ("SIGTERM", "SIGINT"):
    report(
      f"Stopped by {result.reason} at step {result.step}, which is saved; the "
      "same command goes on from there."
    )
    raise SystemExit(128 + (15 if result.reason == "SIGTERM" else 2))
  metrics = dict(result.validation or {})
  facts: Mapping[str, Any] = {}
  if lead and jax.process_count() == 1:
    if run.task and run.data.validation is not None:
      metrics |= predict.evaluate(
        loading.load(workdir),
        run.data.validation,
        classes=run.data.facts.get("classes", ()),
        out=workdir / "predictions.jsonl",
        replace=True,  # this run's own, perhaps of an earlier session
      )
    if export:
      facts = _exported(workdir, report)
  page = workdir / "report.html"
  if lead:
    page = run_report(workdir)
    told = ", ".join(f"{k} {v:.4g}" for k, v in metrics.items())
    report(f"Done: {told or 'no held-out data'}. {page} shows the run.")
  return Trained(result, metrics, facts, page)


def dry_run(config, workdir, *, report: Report = print) -> str:
  """Parameters, shapes, memory and cost of a run, without training."""
  run = prepare(config, workdir, report=report)
  state = loop.abstract_state(run.plan)
  compiled = loop.compile_step(run.plan, state)
  lines = [f"{'parameter':<56} {'shape':<20} {'count':>12}"]
  for path, leaf in paths.flatten(state.params).items():
    lines.append(f"{path:<56} {str(leaf.shape):<20} {leaf.size:>12,}")
  lines.append(f"{paths.count(state.params):,} parameters")
  for key, value in run.plan.task.batch_spec.items():
    lines.append(f"batch {key}: {value.shape} {value.dtype}")
  memory = cost.memory(state, compiled)
  for name, size in memory._asdict().items():
    told = "unknown" if size is None else f"{size / 2**20:,.1f} MiB a device"
    lines.append(f"memory, {name}: {told}")
  flops = run.plan.flops_per_step
  lines.append(f"{flops:.3e} FLOPs a step by the formula")
  steps = run.plan.duration.steps
  if steps is None:
    seconds = run.plan.duration.seconds
  else:
    lines.append(f"{steps:,} steps, {flops * steps:.3e} FLOPs in all")
    resolved = cost.resolve(run.plan.rates, run.plan.mesh.devices.ravel())
    peak = resolved.peak_flops
    seconds = peak and flops * steps / (0.4 * peak * resolved.devices)
  if seconds:
    bill = cost.bill(
      cost.resolve(run.plan.rates, run.plan.mesh.devices.ravel()), seconds
    )
    basis = "" if steps is None else " at an assumed MFU of 40%"
    lines.append(f"cost{basis}: {json.dumps(bill)}")
  else:
    lines.append(
      "cost: unknown, because the peak of this device is; set "
      "config.cost.peak_flops"
    )
  return "\n".join(lines)


def evaluate(checkpoint_path, files: str, *, out=None) -> dict[str, float]:
  """Metrics of a fine-tuned workdir on other labelled files.

  Args:
    checkpoint_path: a workdir whose config reads labelled data.
    files: labelled files in the same format.
    out: a file for the predictions (JSON lines), or None.

  Raises:
    UserError: no such workdir, or one without labelled data.
  """
  loaded = loading.load(checkpoint_path)
  config_file = pathlib.Path(checkpoint_path) / "config.json"
  if loaded.task is None or not config_file.is_file():
    raise errors.UserError(
      f"{checkpoint_path} was not fine-tuned by jaxlm on labelled data, so how "
      "to read --files is unknown: fine-tune it first (configs/finetune.py)."
    )
  config = loading.tuples(json.loads(config_file.read_text(encoding="utf-8")))
  task = datasets.build(config["data"]).evaluation(
    files,
    tokenizer=loaded.tokenizer,
    batch_size=config["batch_size"],
    classes=loaded.labels,
  )
  return predict.evaluate(loaded, task, classes=loaded.labels, out=out)


def neighbours(checkpoint_path, *, report: Report = print) -> dict[str, float]:
  """How near a model of continuous outputs comes to held-out words.

  Args:
    checkpoint_path: a workdir whose config reads `word_vectors`; its files
      must still be there.
    report: takes lines about the data.

  Raises:
    UserError: another workdir, or one without held-out words.
  """
  loaded = loading.load(checkpoint_path)
  config_file = pathlib.Path(checkpoint_path) / "config.json"
  config = {}
  if config_file.is_file():
    config = loading.tuples(json.loads(config_file.read_text(encoding="utf-8")))
  if config.get("data", {}).get("kind") != word_vectors.KEY:
    raise errors.UserError(
      f"{checkpoint_path} was not trained on words with their vectors, so it "
      "has no nearest ones: train configs/elmo_c.py first."
    )
  data = prepare_data(config, checkpoint_path, report=report)
  if data.validation is None:
    raise errors.UserError(
      f"{checkpoint_path} holds no document out: set data.validation_files or "
      "data.validation_share."
    )
  return nearest.measure(
    loaded.model,
    loaded.variables,
    predict.epoch(data.validation),
    word_vectors.table(checkpoint_path),
  )


def export(checkpoint_path, out) -> dict[str, Any]:
  """Writes a Hugging Face folder; returns its facts.

  Raises:
    UserError: no such workdir, or an `out` that holds something else.
  """
  loaded = loading.load(checkpoint_path)
  card_file = pathlib.Path(checkpoint_path) / "run.json"
  card = {}
  if card_file.is_file():
    card = json.loads(card_file.read_text(encoding="utf-8"))
  return interop.export_folder(
    out,
    model=loaded.spec,
    params=loaded.variables["params"],
    tokenizer=loaded.tokenizer,
    labels=loaded.labels,
    card=card,
  )


def import_folder(source, out) -> str:
  """Writes a workdir from a Hugging Face folder; says what it holds.

  Raises:
    UserError: a folder that cannot be read, or an `out` that exists.
  """
  out = pathlib.Path(out)
  if out.exists() and any(out.iterdir()):
    raise errors.UserError(f"{out} exists and is not empty: choose another.")
  imported = interop.import_folder(source)
  save(
    out,
    imported.model,
    imported.params,
    imported.tokenizer,
    labels=imported.labels,
    facts={"imported_from": str(source)},
  )
  return (
    f"{out}: {paths.count(imported.params):,} parameters, "
    f"{'with' if imported.tokenizer else 'without'} a tokenizer"
  )


def save(out, spec, params, tokenizer=None, *, labels=(), facts=None) -> None:
  """Writes a workdir that `loading.load` and `init_from` read.

  Args:
    out: the folder.
    spec: the whole model spec.
    params: its parameters, nested dicts of arrays.
    tokenizer: a Tokenizer, or None.
    labels: names of the classes of its head.
    facts: where it came from, plain data.
  """
  out = pathlib.Path(out)
  if tokenizer is not None:
    tokenizer.save(out / "tokenizer")
  saved = checkpoint.Checkpoints(out / "checkpoints", keep=1)
  params = jax.tree.map(jax.numpy.asarray, params)
  key = jax.random.key_data(jax.random.key(0))
  state = TrainState(np.zeros((), np.int32), params, (), {}, key)
  saved.save(state, {"config": {}, "facts": facts or {}})
  saved.close()
  loading.describe(
    out, spec, labels=labels, task=loading.task_of(spec), facts=facts
  )


def join_processes() -> None:
  """Joins the processes of a cluster that JAX_COORDINATOR_ADDRESS names."""
  address = os.environ.get("JAX_COORDINATOR_ADDRESS")
  if address and not jax.distributed.is_initialized():
    jax.distributed.initialize(
      address,
      int(os.environ["JAX_NUM_PROCESSES"]),
      int(os.environ["JAX_PROCESS_ID"]),
    )


def _start(config):
  if not config["init_from"]:
    return None
  # Towers go on from towers; all else from what pre-training leaves.
  whole = "towers" in config["model"]
  return loading.load(config["init_from"], whole=whole)


def _moved(start, data: Prepared, report):
  """The start under the vocabulary of the data, and facts that tell so."""
  if start is None or start.tokenizer is None:
    return start, data
  if data.tokenizer.pieces == start.tokenizer.pieces:
    return start, data
  params, spec, facts = interop.transplant(
    start.variables["params"], start.spec, start.tokenizer, data.tokenizer
  )
  report(
    f"Vocabulary: {start.source} starts anew with {facts['rows']:,} pieces: "
    f"{facts['copied']:,} rows copied, {facts['averaged']:,} the mean of "
    f"{facts['pieces_averaged']:.1f} old ones, {facts['drawn']:,} drawn."
  )
  moved = start._replace(
    variables={"params": params}, spec=spec, tokenizer=data.tokenizer
  )
  told = {**data.facts, "transplanted": facts}
  return moved, data._replace(facts=told)


def _adapted(start: loading.Loaded, spec) -> dict[str, Any]:
  """The start's parameters in the new model's arrangement, old heads kept."""
  params = jax.tree.map(np.asarray, start.variables["params"])
  try:
    return interop.adapt(params, start.spec, spec)[0]
  except errors.UserError as error:
    where = f"config.init_from={start.source}"
    raise errors.UserError(f"{where}: {error}") from error


def _data(config, start, workdir, report) -> Prepared:
  """Prepared data; with several processes the first makes them for all."""
  workdirs.check(workdir, config)
  tokenizer = config["tokenizer"]
  if start is not None and "kind" not in tokenizer:
    tokenizer = start.tokenizer
  data = datasets.build(config["data"])

  def make(tell):
    return data.prepare(
      tokenizer=tokenizer,
      workdir=pathlib.Path(workdir),
      batch_size=config["batch_size"],
      seed=config["seed"],
      report=tell,
    )

  if jax.process_count() == 1:
    return make(report)
  prepared = make(report) if jax.process_index() == 0 else None
  multihost_utils.sync_global_devices("jaxlm data")
  return prepared or make(lambda line: None)


def _exported(workdir, report) -> Mapping[str, Any]:
  try:
    facts = export(workdir, workdir / "export")
  except interop.NotExportable as reason:  # the run itself is done and kept
    report(f"Not exported: {reason}")
    return {}
  report(
    f"Exported to {workdir / 'export'}; after reloading, logits differ by at "
    f"most {facts['largest_difference']:.2g}."
  )
  return facts
