"""An optimizer for each group of parameters, told by their paths.

config.optimizer = dict(
  kind="groups", learning_rate=1e-4, groups=dict(
    words=dict(paths="^embeddings/", optimizer=dict(kind="frozen")),
    rest=dict(paths="", rate=0.5, optimizer=dict(kind="adamw")),
  ))
"""

from collections.abc import Mapping

import optax

from jaxlm import errors, paths
from jaxlm.optimizers import _parts, optimizers

_FIELDS = ("paths", "optimizer", "rate")


@optimizers.register(
  "groups",
  example={
    "learning_rate": 1e-3,
    "groups": {
      "tables": {"paths": "table$", "optimizer": {"kind": "frozen"}},
      "rest": {"paths": "", "rate": 0.5, "optimizer": {"kind": "adamw"}},
    },
  },
)
def groups(
  learning_rate, groups: Mapping[str, Mapping]
) -> optax.GradientTransformationExtraArgs:
  """Each parameter goes to the group whose expression its path meets.

  A group with paths="" takes what no other does. Where several others meet a
  parameter, the first by name has it: a config keeps no order of its keys.

  Args:
    learning_rate: a schedule or a number, of all groups.
    groups: name -> {paths: regular expression searched in the path,
      optimizer: a spec without learning rate, rate: times the learning rate,
      1 where not given}; all parameters must be covered.

  Raises:
    UserError: a group with another field or without these; when initialised,
      parameters that no group covers, and a group that covers none.
  """
  rules, parts = [], {}
  for name, group in groups.items():
    _check(name, group)
  in_turn = sorted(groups, key=lambda name: (not groups[name]["paths"], name))
  for name in in_turn:
    group = groups[name]
    rules.append((group["paths"], name))
    rate = _parts.scaled(learning_rate, group.get("rate", 1.0))
    parts[name] = optimizers.build(dict(group["optimizer"]), learning_rate=rate)

  def split(tree, labels):
    flat = paths.flatten(tree)
    return {n: {p: flat[p] for p in flat if labels[p] == n} for n in parts}

  def init(params):
    labels = paths.flatten(paths.label(params, rules))
    if unused := [name for name in parts if name not in labels.values()]:
      raise errors.UserError(
        f"config.optimizer.groups.{unused[0]}: no parameter is left for "
        f"paths={groups[unused[0]]['paths']!r}. The parameters are: "
        f"{', '.join(labels)}."
      )
    shares = split(params, labels)
    return {name: tx.init(shares[name]) for name, tx in parts.items()}

  def update(
    updates, state, params=None, *, grad_fn=None, hvp_fn=None, **extra
  ):
    del hvp_fn  # of all parameters; grad_fn is restricted to a group's
    labels = paths.flatten(paths.label(updates, rules))
    shares, new, states = split(updates, labels), {}, {}
    held = None if params is None else split(params, labels)
    for name, tx in parts.items():
      mine = None if held is None else held[name]
      if grad_fn is not None and params is not None:
        extra["grad_fn"] = _restricted(grad_fn, params, labels, name)
      found, states[name] = tx.update(shares[name], state[name], mine, **extra)
      new |= found
    # In the tree's own order and kinds of nodes.
    return paths.like(updates, new), states

  return optax.GradientTransformationExtraArgs(init, update)


def _restricted(grad_fn, params, labels, name):
  """The gradient by one group's parameters, the others as they are."""

  def grads(mine, *_):
    flat = paths.flatten(grad_fn(paths.like(params, mine)))
    return {path: flat[path] for path in flat if labels[path] == name}

  return grads


def _check(name, group) -> None:
  where = f"config.optimizer.groups.{name}"
  for field in group:
    if field not in _FIELDS:
      raise errors.unknown(f"{where} has no field", field, _FIELDS)
  for field in _FIELDS[:2]:
    if field not in group:
      raise errors.UserError(f"{where} needs the field '{field}'.")
