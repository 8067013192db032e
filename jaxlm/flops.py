"""FLOPs of a training step by formula, from a model's spec and its weights.

A weight counts once for each token that meets it, in each run of its layer.
What parts tell beside their sizes: mixers `reads_memory` and `score_share`,
heads `tied`, `predictions` and `met`, models `lengths`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxlm import paths
from jaxlm.layers.heads import heads as head_parts
from jaxlm.layers.mixers import mixers
from jaxlm.models import assembly, models
from jaxlm.training import cost
from jaxlm.types import Task

_OF_KEYS = ("/mixer/key/", "/mixer/value/")
_OF_SOURCE = ("/cross/key/", "/cross/value/")  # not of a target's tokens
_LABELS = ("predict_ids", "targets", "tags", "labels")


class Met(NamedTuple):
  """Tokens a row that layers of a tower meet: what a model's `lengths` says.

  Attributes:
    row: of layers.
    source: of what cross-attention reads.
    feedforward: of feed-forwards, where they are fewer.
    again: how often the last layer runs once more, over the keys and values
      that it has.
  """

  row: int
  source: int
  feedforward: int
  again: int = 0


def flops_per_step(spec: Mapping[str, Any], params, task: Task) -> float:
  """FLOPs of a step by the formula of `cost.formula_flops`, all towers."""
  sizes = {path: leaf.size for path, leaf in paths.flatten(params).items()}
  total = _head_flops(spec, sizes, task)
  rows = task.batch_spec["inputs"].shape[0]
  for name, tower in assembly.towers(spec).items():
    own = _under(f"{name}/" if name else "", sizes)
    total += _body_flops(tower, own, rows, _met(spec, name, task))
    total += _head_flops(tower, own, task) if name else 0.0
  return total


def _met(spec, tower, task) -> Met:
  """The tokens of a tower, by the batch and by what its model says."""
  length = task.batch_spec["inputs"].shape[1]
  key = f"{tower}_inputs"  # of a decoder beside an encoder
  row = task.batch_spec[key if key in task.batch_spec else "inputs"].shape[1]
  met = {"row": row, "source": length}
  part = models.entry(spec["kind"]).build
  if hasattr(part, "lengths"):
    met |= part.lengths(spec, task.batch_spec)[tower]
  return Met(**{"feedforward": met["row"], **met})


def _body_flops(spec, sizes, rows: int, met: Met) -> float:
  """Of all layers, and of the last one's further runs."""
  order = assembly.layer_order(spec)
  layers = [
    (spec["layers"][name], width)
    for name, width in zip(order, assembly.widths(spec), strict=True)
  ]
  runs = assembly.runs(spec)
  body = {
    path: size * runs.get(path.split("/")[0], 1)
    for path, size in _under("stack/", sizes).items()
  }
  last = {
    path: size
    for path, size in body.items()
    if path.startswith(f"layers_{len(order) - 1}/")
    and not any(part in path for part in _OF_KEYS)
  }
  total = _run_flops(layers, body, rows, met)
  return total + met.again * _run_flops(layers[-1:], last, rows, met)


def _run_flops(layers, sizes, rows: int, met: Met) -> float:
  """Of one run of layers (spec, width) whose weights are of these sizes."""
  once = _OF_SOURCE
  if all(_crosses(layer["mixer"]) for layer, _ in layers):
    once += _OF_KEYS
  total = 0.0
  for path, size in sizes.items():
    tokens = met.feedforward if "/feedforward" in path else met.row
    if any(part in path for part in once):
      tokens = met.source
    total += cost.formula_flops(size, rows * tokens)
  pairs = [pair for layer in layers for pair in _attention(*layer, met)]
  return total + cost.formula_flops(0, rows * met.row, attention=pairs)


def _attention(layer, width, met: Met) -> list[tuple[float, int]]:
  """(width of all heads, span) of each attention of a layer."""
  mixer = layer["mixer"]
  span = min(mixer.get("window", 0) or met.row, met.row)
  found = [(_attended(width, mixer), met.source if _crosses(mixer) else span)]
  if "cross" in layer:
    found.append((_attended(width, layer["cross"]), met.source))
  return found


def _crosses(mixer) -> bool:
  """Whether a mixer looks at states of another model."""
  return getattr(mixers.entry(mixer["kind"]).build, "reads_memory", False)


def _attended(width, mixer) -> float:
  """Width over all heads that have scores."""
  part = mixers.entry(mixer["kind"]).build
  whole = mixer.get("head_dim", 0) * mixer.get("heads", 0) or width
  return whole * getattr(part, "score_share", 1.0)


def _head_flops(spec, sizes, task: Task) -> float:
  """Of heads, and of the token table where an output is tied to it."""
  heads = spec.get("heads", {})
  parameters = sum(
    _met_by_head(head, _under(f"heads_{name}/", sizes), spec)
    for name, head in heads.items()
  )
  if any(map(_tied, heads.values())):
    parameters += sizes.get("embeddings/table", 0)
  batch = task.batch_spec
  read = max((batch[key].size for key in _LABELS if key in batch), default=0)
  each = [getattr(_part(head), "predictions", 1) for head in heads.values()]
  return cost.formula_flops(
    0, 0, head_parameters=parameters, head_tokens=max(each, default=1) * read
  )


def _met_by_head(head, sizes, spec) -> float:
  """Weights of a head that a place meets; all, or what the part says."""
  part = _part(head)
  if hasattr(part, "met"):
    return part.met(head, sizes, spec["vocab_size"])
  return sum(sizes.values())


def _tied(head) -> bool:
  """Whether a head's output is the token table."""
  return head.get("tied", getattr(_part(head), "tied", False))


def _part(head):
  return head_parts.entry(head["kind"]).build


def _under(start: str, sizes) -> dict[str, int]:
  """The sizes of what lies under a path, by the rest of it."""
  return {
    path.removeprefix(start): size
    for path, size in sizes.items()
    if path.startswith(start)
  }
