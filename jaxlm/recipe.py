"""From a config to typed objects; nothing below this sees a config again."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import abilities, errors, sharding
from jaxlm.flops import flops_per_step
from jaxlm.layers.embeddings import embeddings as embedding_parts
from jaxlm.layers.heads import heads as head_parts
from jaxlm.models import assembly, replacement, taught
from jaxlm.objectives import objectives
from jaxlm.optimizers import optimizers
from jaxlm.schedules import schedules
from jaxlm.training import cost, durations, plan
from jaxlm.types import Task

_DTYPES = {
  "float32": jnp.float32,
  "bfloat16": jnp.bfloat16,
  "float16": jnp.float16,
}


def compute_dtype(name: str):
  """The dtype of activations; 'auto' is bfloat16 off the CPU.

  Raises:
    UserError: no such dtype.
  """
  if name == "auto":
    name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  if name not in _DTYPES:
    raise errors.unknown("config.precision knows no", name, [*_DTYPES, "auto"])
  return _DTYPES[name]


def model_spec(
  config: Mapping[str, Any],
  facts: Mapping[str, Any],
  start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The whole model spec: what the config, the data and a start tell.

  Args:
    config: the completed config.
    facts: of the prepared data: `vocab_size`, the tokenizer's `pieces`, and
      `classes` where labelled.
    start: the spec of the model that `init_from` names, or None.

  Raises:
    UserError: no model in the config and none to start from, or a tokenizer
      with more tokens than the model.
  """
  spec = replacement.apply({**(start or {}), **config["model"]})
  if "kind" not in spec:
    raise errors.UserError(
      "config.model is empty: take a config that has a model, or set "
      "config.init_from to a workdir or a Hugging Face folder."
    )
  spec.setdefault("vocab_size", facts["vocab_size"])
  if facts["vocab_size"] > spec["vocab_size"]:
    raise errors.UserError(
      f"The tokenizer has {facts['vocab_size']} tokens but the model only "
      f"{spec['vocab_size']}; take the tokenizer that it was trained with, or "
      "set config.model.vocab_size."
    )
  if "towers" in spec:
    facts = {**facts, "vocab_size": spec["vocab_size"]}
    spec["towers"] = {
      name: model_spec({"model": tower}, facts)
      for name, tower in spec["towers"].items()
    }
  words = spec.get("notes", {}).get("words", 1)
  if "notes" in spec and facts.get("notes", 0) > words:
    raise errors.UserError(
      f"The data know {facts['notes']} rare words but config.model.notes has "
      f"{words}: set config.model.notes.words={facts['notes']}, or lower "
      "config.data.words."
    )
  if "embeddings" in spec:
    spec["embeddings"] = _told(embedding_parts, spec["embeddings"], facts)
  spec.setdefault("heads", {})
  for family in assembly.HEADS:
    if family in spec:
      heads = spec[family].items()
      spec[family] = {k: _told(head_parts, head, facts) for k, head in heads}
  return spec


def _told(family, spec, facts) -> dict[str, Any]:
  """The spec of a part with what the data tell it and it leaves unset."""
  part = family.entry(family.check(spec)).build
  known = part.told(facts) if hasattr(part, "told") else {}
  return {**known, **spec}


def build_model(spec: Mapping[str, Any], config: Mapping[str, Any]):
  """The Linen module of a whole spec, in the config's precision."""
  precision = config["precision"]
  return assembly.build(
    spec,
    dtype=compute_dtype(precision["compute"]),
    param_dtype=compute_dtype(precision["params"]),
  )


def shapes(model):
  """Shapes of the model's parameters, computing nothing."""
  dummy = {"inputs": jnp.zeros((1, 1), jnp.int32)}
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), dummy))
  return nn.unbox(variables)["params"]


def build(
  config: Mapping[str, Any],
  *,
  spec: Mapping[str, Any],
  train: Task,
  validation: Task | None,
  facts: Mapping[str, Any],
  params: Mapping[str, Any] | None = None,
) -> plan.TrainingPlan:
  """All that the training loop needs.

  Args:
    config: the completed config (`configuration.complete`).
    spec: the whole model spec (`model_spec`).
    train: training batches.
    validation: held-out batches, or None.
    facts: of the data, for the run card.
    params: parameters to start from; the others are drawn.

  Raises:
    UserError: parts that do not fit each other, the data or the devices.
  """
  objective = objectives.build(config["objective"])
  model = build_model(spec, config)
  abilities.check(objective, model)
  check_features(objective, model, train)
  if getattr(objective, "teacher", False):
    model = taught.Taught(model)
  check_length(spec, train)
  mesh = sharding.make_mesh(**config["mesh"])
  rows, length = train.batch_spec["inputs"].shape
  duration = durations.resolve(
    config["steps"], rows=train.rows, batch_size=rows, row_tokens=length
  )
  schedule = durations.build_schedule(
    config["schedule"], config["optimizer"]["learning_rate"], duration
  )
  return plan.TrainingPlan(
    model=model,
    objective=objective,
    tx=optimizers.build({**config["optimizer"], "learning_rate": schedule}),
    schedule=schedule,
    task=train,
    duration=duration,
    mesh=mesh,
    validation=validation,
    microbatches=config["microbatches"],
    seed=config["seed"],
    clip_norm=config["clip_norm"],
    params=params,
    checkpoint=_settings(plan.CheckpointSettings, config, "checkpoint"),
    log=_settings(plan.LogSettings, config, "log"),
    evaluation=_settings(plan.EvaluationSettings, config, "evaluation"),
    rates=_settings(cost.Rates, config, "cost"),
    config=dict(config),
    facts=dict(facts),
    flops_per_step=flops_per_step(spec, shapes(model), train)
    * getattr(objective, "passes", 1),
  )


def check_parts(config: Mapping[str, Any], model) -> None:
  """Raises UserError for what is wrong whatever the data are.

  Args:
    config: the completed config.
    model: of its spec, maybe of guessed sizes.
  """
  abilities.check(objectives.build(config["objective"]), model)
  if "learning_rate" not in config["optimizer"]:
    raise errors.UserError("config.optimizer needs a learning_rate.")
  optimizers.build(config["optimizer"])
  schedules.check(config["schedule"])


def check_features(objective, model, task: Task) -> None:
  """Raises UserError if the data lack what objective or model read.

  Also if the objective drops what the model passes on to the next step.
  """
  kept = getattr(objective, "keeps_updates", False)
  if getattr(model, "updates", False) and not kept:
    raise errors.UserError(
      f"The model '{type(model).__name__}' passes notes on to the next step, "
      f"which the objective '{type(objective).__name__}' drops; objectives "
      f"that keep them: {', '.join(_keeping())}."
    )
  given_by = getattr(model, "features", {})
  lacking = [name for name in given_by if name not in task.batch_spec]
  if lacking:
    raise errors.UserError(
      f"The model '{type(model).__name__}' reads {', '.join(lacking)}, which "
      f"the data '{task.name}' do not give: set {given_by[lacking[0]]}."
    )
  missing = [f for f in objective.features if f not in task.batch_spec]
  if missing:
    raise errors.UserError(
      f"The objective '{type(objective).__name__}' reads "
      f"{', '.join(missing)}, which the data '{task.name}' do not give; they "
      f"give {', '.join(sorted(task.batch_spec))}. Check config.objective.kind "
      "against config.data."
    )


def _keeping() -> list[str]:
  """Kinds of objectives that pass on what the next step starts from."""
  parts = {kind: objectives.entry(kind).build for kind in objectives.kinds()}
  return [k for k, p in parts.items() if getattr(p, "keeps_updates", False)]


def check_length(spec: Mapping[str, Any], task: Task) -> None:
  """Raises UserError if documents are longer than the position table."""
  length = task.longest or task.batch_spec["inputs"].shape[1]
  for name, tower in assembly.towers(spec).items():
    longest = tower["positions"].get("max_length")
    if longest is not None and length > longest:
      where = f"config.model.towers.{name}" if name else "config.model"
      raise errors.UserError(
        f"config.data.length is {length} but {where}.positions has only "
        f"max_length {longest}: shorten the rows or enlarge the table."
      )


def check_packing(model, data) -> None:
  """Raises UserError if rows hold several documents and the model leaks."""
  if not data.packs:
    return
  for part, reason in assembly.leaks(model).items():
    raise errors.UserError(
      f"{part} cannot read several documents in a row: {reason} Set "
      "config.data.arrangement.max_per_row=1 (one document a row), or "
      "config.data.arrangement=dict(kind='blocks') (running text)."
    )


def _settings(kind, config, key):
  return plan.settings(kind, config[key], f"config.{key}")
