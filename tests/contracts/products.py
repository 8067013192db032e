"""Models of every pair of parts: positions, mixers, blocks and all others.

The kinds come from the registries, so a new part meets all others as soon as
it is registered. Every pair of kinds of two slots stands in at least one
model (pairwise covering); models that assembly must refuse are listed apart,
by what the parts say of themselves.
"""

import itertools

from jaxlm.layers.blocks import blocks
from jaxlm.layers.embeddings import embeddings
from jaxlm.layers.feedforwards import feedforwards
from jaxlm.layers.mixers import mixers
from jaxlm.layers.norms import norms
from jaxlm.layers.positions import positions
from jaxlm.layers.stacks import stacks
from jaxlm.registry import Registry
from tests import tiny

SLOTS: dict[str, Registry] = {
  "positions": positions,
  "mixer": mixers,
  "feedforward": feedforwards,
  "block": blocks,
  "stack": stacks,
  "norm": norms,
  "embeddings": embeddings,
}
Kinds = tuple[str, ...]  # one kind a slot, in the order of SLOTS
# What assembly or the surroundings give.
_GIVEN = ("width", "vocab_size", "heads")


def spec(kinds: Kinds) -> dict:
  """The spec of a model of two layers with a masked-LM head."""
  parts = dict(zip(SLOTS, kinds))
  made = {
    slot: {"kind": kind} | _example(SLOTS[slot], kind)
    for slot, kind in parts.items()
  }
  if "heads" in mixers.fields(parts["mixer"]):
    made["mixer"].setdefault("heads", tiny.HEADS)
  layer = {k: made[k] for k in ("mixer", "feedforward", "block")}
  if "feedforward" not in blocks.fields(parts["block"]):
    del layer["feedforward"]
  if "cross" in blocks.fields(parts["block"]):
    layer["cross"] = dict(kind="cross_attention", heads=tiny.HEADS)
  separate = getattr(mixers.entry(parts["mixer"]).build, "separate_values", 0)
  if "attention_input" in blocks.fields(parts["block"]) and not separate:
    layer["block"]["attention_input"] = "bottleneck"  # as its error says
  if "biased_input" in positions.fields(parts["positions"]):
    narrow = parts["embeddings"] == "factorized"  # as its error says
    if narrow:
      made["positions"] |= dict(biased_input=False, max_length=None)
  words = embeddings.entry(parts["embeddings"]).build
  head = dict(kind="masked_lm")
  if not getattr(words, "keeps_table", True):
    head["untied"] = tiny.WIDTH
  return tiny.model_spec(
    positions=made["positions"],
    layers=dict(layer=layer),
    depth=2,
    heads=dict(masked_lm=head),
    input_norm=True,
    **{slot: made[slot] for slot in ("stack", "norm", "embeddings")},
  )


def batch() -> dict:
  """Packed rows, and an encoder's states for the parts that read one."""
  return tiny.batch() | tiny.memory()


def refusal(kinds: Kinds) -> str | None:
  """A word of the reason why these cannot go together, or None."""
  position, mixer = kinds[:2]
  part, mixing = positions.entry(position).build, mixers.entry(mixer).build
  if part.on_scores and not getattr(mixing, "adds_bias", False):
    return "adds to attention scores"
  able = "positions" in mixers.fields(mixer)
  if part.turns_queries() and not (able and getattr(mixing, "turns", True)):
    return "acts on queries and keys"
  if part.scores_queries() and not (able and getattr(mixing, "adds_bias", 0)):
    return "makes scores of queries"
  reads = getattr(mixing, "reads", "")
  if reads != part.shares:
    return "do not give" if reads else "does not read"
  return None


def legal() -> list[Kinds]:
  """Legal models such that every legal pair of kinds is in one of them.

  Each model begins with a pair that is in none yet, and takes for each other
  slot the kind that adds most new pairs.
  """
  left = {
    frozenset(pair)
    for a, b in itertools.combinations(SLOTS, 2)
    for pair in itertools.product(_of(a), _of(b))
    if _legal(dict(pair))
  }
  chosen = []
  while left:
    model = dict(min(left, key=sorted))
    for slot in SLOTS:
      if slot in model:
        continue
      able = [kind for s, kind in _of(slot) if _legal(model | {s: kind})]
      model[slot] = max(
        able,
        key=lambda kind: sum(
          frozenset({(slot, kind), other}) in left for other in model.items()
        ),
      )
    chosen.append(tuple(model[slot] for slot in SLOTS))
    left -= pairs(chosen[-1])
  return chosen


def _of(slot) -> list[tuple[str, str]]:
  return [(slot, kind) for kind in SLOTS[slot].kinds()]


def _legal(model: dict) -> bool:
  """Whether some model with these kinds is legal."""
  positioned = (
    [model["positions"]] if "positions" in model else positions.kinds()
  )
  mixed = [model["mixer"]] if "mixer" in model else mixers.kinds()
  return any(
    refusal(kinds) is None for kinds in itertools.product(positioned, mixed)
  )


def illegal() -> list[Kinds]:
  """One model for each position and mixer that cannot go together."""
  rest = tuple(registry.kinds()[0] for registry in list(SLOTS.values())[2:])
  every = itertools.product(positions.kinds(), mixers.kinds())
  return [(*kinds, *rest) for kinds in every if refusal(kinds)]


def pairs(kinds: Kinds) -> set:
  """The pairs of kinds of two slots that a model holds."""
  return {frozenset(p) for p in itertools.combinations(zip(SLOTS, kinds), 2)}


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
