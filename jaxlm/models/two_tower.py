"""A generator and a discriminator that share their tables (ELECTRA).

The towers are models of their own, applied one by one; what they share is a
function of their parameters, `composed`, and needs no module.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlm import errors, paths
from jaxlm.models import assembly, models
from jaxlm.models.note_taking import COLLECTION as NOTES

GENERATOR, DISCRIMINATOR = "generator", "discriminator"

# sharing -> the parameters that the discriminator takes from the generator.
_TABLES = r"^(embeddings/table|positions/table)$"
SHARED = {
  "separate": r"$^",
  "shared": r"^(embeddings/(table|type_table)$|positions/table$|input_norm/)",
  "gradient_disentangled": _TABLES,
}
_KEYS = ("kind", "towers", "sharing", "vocab_size", "heads")


@models.register("two_tower", paper="arXiv:2003.10555, arXiv:2111.09543")
@dataclasses.dataclass(frozen=True)
class TwoTower:
  """Parameters lie under the towers' names; the generator owns shared ones.

  Of notes (`note_taking_encoder`) there is one dictionary, which the
  discriminator's states fill and both towers read.

  Attributes:
    generator: a model with a head called `masked_lm`.
    discriminator: a model with a head called `replaced_token`.
    sharing: `separate`; `shared`, all that makes a row of the input: tables
      and their norm (ELECTRA); or `gradient_disentangled` (DeBERTaV3, section
      3.3): token tables, and those of absolute positions where both towers
      have one, are E_D = stop_gradient(E_G) + E_delta, where E_delta, kept in
      the discriminator's place, starts at 0.
  """

  can: ClassVar[tuple[str, ...]] = ("towers",)

  generator: nn.Module
  discriminator: nn.Module
  sharing: str = "shared"

  @staticmethod
  def assemble(spec: Mapping[str, Any], *, dtype=jnp.float32, **given):
    """The model of dict(kind="two_tower", sharing=..., towers={...}).

    Raises:
      UserError: an unknown key, tower or way of sharing, or a tower without
        the head that it needs.
    """
    _check(spec)
    if "vocab_size" in spec:
      given = {**given, "vocab_size": spec["vocab_size"]}
    towers = {
      name: assembly.build(tower, dtype=dtype, **given)
      for name, tower in spec["towers"].items()
    }
    return TwoTower(**towers, sharing=spec.get("sharing", "shared"))

  @staticmethod
  def exported(spec: Mapping[str, Any], params):
    """The spec and parameters of the discriminator, whole."""
    tower = {"vocab_size": spec["vocab_size"]} if "vocab_size" in spec else {}
    tower |= spec["towers"][DISCRIMINATOR]
    sharing = spec.get("sharing", "shared")
    params = composed(nn.meta.unbox(params), sharing)
    part = models.entry(tower["kind"]).build
    if hasattr(part, "exported"):  # of which a part is kept, too
      return part.exported(tower, params)
    return tower, params

  @property
  def towers(self) -> dict[str, nn.Module]:
    """name -> model, the generator first."""
    return {GENERATOR: self.generator, DISCRIMINATOR: self.discriminator}

  @property
  def heads(self) -> dict[str, nn.Module]:
    """name -> head, of both towers."""
    return {**self.generator.heads, **self.discriminator.heads}

  @property
  def features(self) -> dict[str, str]:
    """What a tower reads beside what all models do, by what gives it."""
    found = [getattr(t, "features", {}) for t in self.towers.values()]
    return dict(pair for keys in found for pair in keys.items())

  @property
  def updates(self) -> bool:
    """Whether a tower's outputs hold what the next step starts from."""
    return any(getattr(t, "updates", False) for t in self.towers.values())

  def init(self, rngs, batch, *, train=False):
    """Variables of both towers: {collection: {tower: tree}}.

    Args:
      rngs: a key, or stream -> key.
      batch: what both towers read.
      train: as of the towers.

    Raises:
      UserError: shared tables that do not exist alike in both towers.
    """
    rngs = rngs if isinstance(rngs, Mapping) else {"params": rngs}
    made: dict[str, dict[str, Any]] = {}
    for name, tower in self.towers.items():
      drawn = tower.init(_folded(rngs, name), batch, train=train)
      for collection, tree in drawn.items():
        if (name, collection) == (GENERATOR, NOTES):
          continue
        made.setdefault(collection, {})[name] = tree
    made["params"] = _owned(made["params"], self.sharing)
    return made

  def apply(
    self,
    variables,
    batch,
    *,
    tower: str = "",
    train=False,
    capture=frozenset(),
    rngs=None,
    mutable=False,
  ):
    """Runs one tower, or both on the same batch.

    Args:
      variables: {"params": {tower: tree}, ...}.
      batch: see docs/design.md.
      tower: a name; both where "".
      train: dropout on.
      capture: names kept in 'intermediates'.
      rngs: stream -> key; each tower folds its own.
      mutable: as in Linen; then what changed comes second.

    Returns:
      The tower's outputs. Of both: the discriminator's, and the heads of the
      generator that it has not.
    """
    outputs, updates = {}, {}
    for name in (tower,) if tower else (DISCRIMINATOR, GENERATOR):
      found = self.towers[name].apply(
        self._variables(variables, name),
        _read(batch, name),
        train=train,
        capture=capture,
        rngs=_folded(rngs or {}, name),
        mutable=mutable,
      )
      if mutable is not False:
        found, changed = found
        for collection, tree in changed.items():
          updates.setdefault(collection, {})[name] = tree
      if "updates" in found:
        notes = found["updates"][NOTES]
        found = {**found, "updates": {NOTES: {name: notes}}}
      outputs = {**found, **outputs}
    return outputs if mutable is False else (outputs, updates)

  def _variables(self, variables, name):
    """One tower's own variables, its parameters whole."""
    own = {c: tree[name] for c, tree in variables.items() if name in tree}
    if NOTES in variables:
      own[NOTES] = variables[NOTES][DISCRIMINATOR]
    if name == DISCRIMINATOR:
      own["params"] = composed(variables["params"], self.sharing)
    return own


def composed(params, sharing: str):
  """The discriminator's whole parameters, from those of both towers.

  Args:
    params: {tower: nested dict}, numpy or jax arrays.
    sharing: a name of `SHARED`.
  """
  own = paths.flatten(params[DISCRIMINATOR])
  for path, base in paths.flatten(params[GENERATOR]).items():
    if not re.search(SHARED[sharing], path):
      continue
    if sharing == "shared":
      own[path] = base
    elif path in own:  # what differs from the generator's
      fixed = jax.lax.stop_gradient(base) if _traced(base) else base
      own[path] = fixed + own[path]
  return paths.unflatten(own)


def _traced(leaf) -> bool:
  """Whether a leaf is jax's; numpy's keep their float64 on the host."""
  return isinstance(leaf, jax.Array)


def _owned(params, sharing):
  """Without what the discriminator borrows; differences start at 0."""
  is_box = lambda leaf: isinstance(leaf, nn.meta.AxisMetadata)
  flat = {
    name: {
      paths.name(path): leaf
      for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=is_box)
    }
    for name, tree in params.items()
  }
  own = dict(flat[DISCRIMINATOR])
  for path in _common(flat, sharing):
    leaf = own.pop(path)
    if sharing == "gradient_disentangled":
      own[path] = jax.tree.map(jnp.zeros_like, leaf)
  return {**params, DISCRIMINATOR: paths.unflatten(own)}


def _common(flat, sharing) -> list[str]:
  """The paths that are shared.

  Raises:
    UserError: one of them has another shape in the other tower, or is there
      in one alone where both must have it.
  """
  shapes = {
    name: {
      path: nn.meta.unbox(leaf).shape
      for path, leaf in tree.items()
      if re.search(SHARED[sharing], path)
    }
    for name, tree in flat.items()
  }
  first, second = shapes[GENERATOR], shapes[DISCRIMINATOR]
  found = sorted({*first, *second})
  if sharing != "shared":  # a table of one tower is its own
    found = sorted({*first} & {*second})
  for path in found:
    if first.get(path) != second.get(path):
      raise errors.UserError(
        f"config.model.sharing is '{sharing}', but {path} is "
        f"{first.get(path, 'absent')} in the generator and "
        f"{second.get(path, 'absent')} in the discriminator: give both towers "
        "the same tables (a narrower one embeddings of kind='factorized' with "
        "the other's table_width), or take sharing='separate'."
      )
  return found


def _read(batch, name):
  """What a tower reads: the generator takes no notes."""
  if name == DISCRIMINATOR:
    return batch
  return {key: value for key, value in batch.items() if key != "note_spans"}


def _folded(rngs, name):
  index = (GENERATOR, DISCRIMINATOR).index(name)
  return {k: jax.random.fold_in(key, index) for k, key in rngs.items()}


def _check(spec):
  for key in spec:
    if key not in _KEYS:
      raise errors.unknown("config.model has no key", key, _KEYS)
  towers, names = spec.get("towers", {}), (GENERATOR, DISCRIMINATOR)
  if set(towers) != set(names):
    raise errors.UserError(
      "config.model of kind 'two_tower' has the towers "
      f"{', '.join(sorted(towers)) or 'none'}; it needs {' and '.join(names)}."
    )
  for name, head in zip(names, ("masked_lm", "replaced_token")):
    if head not in towers[name].get("heads", {}):
      raise errors.unknown(
        f"config.model.towers.{name}.heads lacks",
        head,
        towers[name].get("heads", {}),
      )
  if spec.get("sharing", "shared") not in SHARED:
    raise errors.unknown("config.model.sharing has no", spec["sharing"], SHARED)
