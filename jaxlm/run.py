"""`jaxlm train` as a function: raw files to a trained, exported model."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import configuration, errors, interop, loading, paths, recipe
from jaxlm.data import datasets
from jaxlm.training import checkpoint, loop, workdir as workdirs
from jaxlm.training.plan import TrainingPlan


class Run(NamedTuple):
  """What is known before the first step.

  Attributes:
    config: the completed config.
    spec: the whole model spec.
    plan: what the training loop gets.
    tokenizer: of the data.
    facts: of the data.
    task: 'classification', 'regression', 'tagging' or None.
  """

  config: dict[str, Any]
  spec: dict[str, Any]
  plan: TrainingPlan
  tokenizer: Any
  facts: Mapping[str, Any]
  task: str | None


def prepare(config, workdir, *, report: Callable[[str], None] = print) -> Run:
  """Reads the config, makes the data that are missing and builds the parts.

  Raises:
    UserError: a mistake in the config or the data, or a workdir that belongs
      to another config.
  """
  config = configuration.complete(config)
  data = datasets.build(config["data"])
  start = loading.load(config["init_from"]) if config["init_from"] else None
  workdirs.claim(workdir, config)
  tokenizer = config["tokenizer"]
  if start is not None and "kind" not in tokenizer:
    tokenizer = start.tokenizer
  prepared = data.prepare(
    tokenizer=tokenizer,
    workdir=pathlib.Path(workdir),
    batch_size=config["batch_size"],
    seed=config["seed"],
    report=report,
  )
  spec = recipe.model_spec(config, prepared.facts, start and start.spec)
  plan = recipe.build(
    config,
    spec=spec,
    train=prepared.train,
    validation=prepared.validation,
    facts=prepared.facts,
    initial=start and _matching(start, spec, config),
  )
  return Run(
    config=config,
    spec=spec,
    plan=plan,
    tokenizer=prepared.tokenizer,
    facts=prepared.facts,
    task=config["data"].get("task"),
  )


def _matching(start, spec, config):
  """The parameters of `start` that the new model has too, by path and shape.

  A head of the same name but other classes starts afresh.
  """
  model = recipe.build_model(spec, config)
  dummy = {"inputs": jnp.zeros((1, 1), jnp.int32)}
  shapes = jax.eval_shape(
    lambda: nn.unbox(model.init(jax.random.key(0), dummy))
  )
  new = paths.flatten(shapes["params"])
  old = paths.flatten(start.variables["params"])
  body = [p for p in new if not p.startswith("heads_")]
  strange = [
    f"{p}: {old[p].shape if p in old else 'missing'}, needed {new[p].shape}"
    for p in body
    if p not in old or old[p].shape != new[p].shape
  ]
  if strange:
    raise errors.UserError(
      f"config.init_from={start.source} does not fit config.model:\n  "
      + "\n  ".join(strange)
    )
  kept = {
    p: leaf
    for p, leaf in old.items()
    if p in new and leaf.shape == new[p].shape
  }
  return paths.unflatten(kept)
