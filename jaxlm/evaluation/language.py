"""Loss, perplexity and accuracy of a language model on held-out batches."""

import math
from collections.abc import Iterable, Mapping

import jax
import numpy as np

from jaxlm import errors
from jaxlm.evaluation import _model
from jaxlm.objectives import objectives
from jaxlm.training.evaluate import make_eval_step

KINDS = ("masked_lm", "causal_lm")


def measure(
  model,
  variables,
  batches: Iterable[tuple[int, Mapping]],
  kind: str,
) -> dict[str, float]:
  """Means over the predicted tokens of all batches.

  Args:
    model: a Linen module with the head `kind`.
    variables: {"params": ...}.
    batches: (first row, batch), as `predict.epoch` gives.
    kind: masked_lm or causal_lm.

  Returns:
    `loss` (nats a token), `perplexity` (e to the loss; of masked tokens it
    says nothing about other masking rates), `accuracy`, its standard error
    (tokens taken as independent) and `count`, the tokens predicted.

  Raises:
    UserError: no such head, batches without what it predicts, or none.
  """
  _model.require_head(model, kind, f"An evaluation of the kind '{kind}'")
  objective = objectives.build({"kind": kind})
  step = make_eval_step(model, objective)
  variables = dict(_model.on_device(variables))
  params = variables.pop("params")
  totals: dict[str, np.ndarray] = {}
  for _, batch in batches:
    missing = [key for key in objective.features if key not in batch]
    if missing:
      raise errors.UserError(
        f"An evaluation of the kind '{kind}' reads {', '.join(missing)}, "
        f"which these data do not give; they give {', '.join(sorted(batch))}."
      )
    for name, pair in jax.device_get(step(params, variables, batch)).items():
      # float64: sums over many batches stay exact.
      totals[name] = totals.get(name, 0) + np.asarray(pair, np.float64)
  if not totals or not totals["accuracy"][1]:
    raise errors.UserError("The data have no token to predict.")
  (loss, count), (right, _) = totals[f"loss/{kind}"], totals["accuracy"]
  accuracy = right / count
  return {
    "loss": float(loss / count),
    "perplexity": _exp(loss / count),
    "accuracy": float(accuracy),
    "accuracy_error": math.sqrt(accuracy * (1 - accuracy) / count),
    "count": int(count),
  }


def _exp(x: float) -> float:
  return math.exp(x) if x < 700 else math.inf
