"""Models of every pair of position, mixer, feed-forward and block.

The kinds come from the registries, so a new part meets all others as soon as
it is registered. Every pair of kinds of two slots stands in at least one
model (pairwise covering); models that assembly must refuse are listed apart,
by what the parts say of themselves.
"""

import itertools

from jaxlm.layers.blocks import blocks
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.mixers import mixers
from jaxlm.layers.positions import positions
from jaxlm.layers.positions.base import Positions
from jaxlm.registry import Registry
from tests import tiny

SLOTS: dict[str, Registry] = {
  "positions": positions,
  "mixer": mixers,
  "feedforward": feedforwards,
  "block": blocks,
}
Kinds = tuple[str, ...]  # one kind a slot, in the order of SLOTS
# What assembly or the surroundings give.
_GIVEN = ("width", "vocab_size", "heads")


def spec(kinds: Kinds) -> dict:
  """The spec of a one-layer model with a masked-LM head."""
  parts = dict(zip(SLOTS, kinds))
  made = {
    slot: {"kind": kind} | _example(SLOTS[slot], kind)
    for slot, kind in parts.items()
  }
  if "heads" in mixers.fields(parts["mixer"]):
    made["mixer"].setdefault("heads", tiny.HEADS)
  layer = {k: v for k, v in made.items() if k != "positions"}
  if "cross" in blocks.fields(parts["block"]):
    layer["cross"] = dict(kind="cross_attention", heads=tiny.HEADS)
  return tiny.model_spec(
    positions=made["positions"],
    layers=dict(layer=layer),
    heads=dict(masked_lm=dict(kind="masked_lm")),
  )


def batch() -> dict:
  """Packed rows, and an encoder's states for the parts that read one."""
  return tiny.batch() | tiny.memory()


def refusal(kinds: Kinds) -> str | None:
  """A word of the reason why these cannot go together, or None."""
  position, mixer, _, _ = kinds
  part, mixing = positions.entry(position).build, mixers.entry(mixer).build
  if part.on_scores and not getattr(mixing, "adds_bias", False):
    return "adds to attention scores"
  turns = part.at_query_key is not Positions.at_query_key
  if turns and "positions" not in mixers.fields(mixer):
    return "acts on queries and keys"
  reads = getattr(mixing, "reads", "")
  if reads != part.shares:
    return "do not give" if reads else "does not read"
  return None


def legal() -> list[Kinds]:
  """Legal models such that every legal pair of kinds is in one of them."""
  every = list(itertools.product(*(r.kinds() for r in SLOTS.values())))
  models = [kinds for kinds in every if refusal(kinds) is None]
  left = {pair for kinds in models for pair in pairs(kinds)}
  chosen = []
  while left:
    best = max(models, key=lambda kinds: len(left & pairs(kinds)))
    chosen.append(best)
    left -= pairs(best)
  return chosen


def illegal() -> list[Kinds]:
  """One model for each position and mixer that cannot go together."""
  rest = (feedforwards.kinds()[0], blocks.kinds()[0])
  every = itertools.product(positions.kinds(), mixers.kinds())
  return [(*k, *rest) for k in every if refusal((*k, *rest))]


def pairs(kinds: Kinds) -> set:
  """The pairs of kinds of two slots that a model holds."""
  return set(itertools.combinations(zip(SLOTS, kinds), 2))


def once(models: list[Kinds]) -> list[Kinds]:
  """Some of the models, such that each kind is in one of them."""
  seen, kept = set(), []
  for kinds in models:
    if new := set(zip(SLOTS, kinds)) - seen:
      seen |= new
      kept.append(kinds)
  return kept


def _example(registry, kind):
  example = registry.entry(kind).example
  return {k: v for k, v in example.items() if k not in _GIVEN}
