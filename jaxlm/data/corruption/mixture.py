"""A mixture of corruptions: each row takes one of them, by chance.

UL2's mixture of denoisers (Tay et al., arXiv:2205.05131) is one of these. All
rows of a batch have one shape, so that a step is compiled once: a row holds
the text of the part that takes most, a part that takes less gets a window of
it, anew at every visit, and what comes out is padded to the longest. Cutting
rows to the least text instead would leave the inputs of the other parts, and
so most of a step's work, half empty.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxlm.data.corruption import corruptions
from jaxlm.errors import UserError, unknown

_FIELDS = ("rate", "prefix", "corruption")


class Part(NamedTuple):
  """One of the corruptions of a mixture.

  Attributes:
    rate: its weight among the parts.
    prefix: token in front of the inputs, or "".
    corruption: from the registry.
  """

  rate: float
  prefix: str
  corruption: Any

  def inner(self, length: int) -> int:
    """Tokens of the inputs that the corruption makes."""
    return length - bool(self.prefix)


@corruptions.register(
  "mixture",
  paper="arXiv:2205.05131",
  example={
    "parts": {
      "spans": {"rate": 0.5, "corruption": {"kind": "span_corruption"}},
      "rest": {"rate": 0.5, "corruption": {"kind": "prefix_lm"}},
    }
  },
)
@dataclasses.dataclass(frozen=True)
class Mixture:
  """One of several corruptions a row, drawn by the row's own numbers.

  Attributes:
    parts: name -> dict(rate=..., corruption=dict(kind=...), prefix=""). Rates
      are relative. All corruptions must make the same features. A prefix is a
      token of the vocabulary that tells the model which part it is; of
      encoder-decoders alone.
  """

  parts: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )

  def __post_init__(self):
    if not isinstance(self.parts, Mapping) or not self.parts:
      raise UserError(
        "data.corruption of kind 'mixture' needs parts, such as "
        "dict(spans=dict(rate=0.5, corruption=dict(kind='span_corruption')))."
      )
    for name in self.parts:
      _check(name, self.parts[name])

  @property
  def built(self) -> list[Part]:
    """The parts in the order of their names."""
    return [
      Part(
        float(part["rate"]),
        part.get("prefix", ""),
        corruptions.build(part["corruption"]),
      )
      for _, part in sorted(self.parts.items())
    ]

  @property
  def single_segment(self) -> bool:
    """Whether a part takes one text a row."""
    return any(
      getattr(part.corruption, "single_segment", False) for part in self.built
    )

  def text_length(self, length: int) -> int:
    """Tokens of the part that takes most."""
    return max(
      part.corruption.text_length(part.inner(length)) for part in self.built
    )

  def features(self, length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and dtypes of one row: the largest of the parts.

    Raises:
      UserError: parts that make other features, or a prefix in front of what
        is no input of an encoder-decoder.
    """
    made = {
      name: part.corruption.features(part.inner(length))
      for name, part in zip(sorted(self.parts), self.built)
    }
    first = next(iter(made))
    for part in self.built:
      if getattr(part.corruption, "copies", lambda _: 1)(length) > 1:
        raise UserError(
          f"{part.corruption} makes several rows of one, and a part of a "
          "mixture makes one: leave its copies out."
        )
    for name, features in made.items():
      if features.keys() != made[first].keys():
        raise UserError(
          f"data.corruption.parts.{name} makes {', '.join(sorted(features))}, "
          f"but parts.{first} makes {', '.join(sorted(made[first]))}: one "
          "objective cannot read both."
        )
      if self.parts[name].get("prefix") and "decoder_inputs" not in features:
        raise UserError(
          f"data.corruption.parts.{name}.prefix is set, but prefixes are for "
          "corruptions that make decoder_inputs, such as span_corruption."
        )
    return {"inputs": ((length,), "int32")} | {
      key: (_largest([f[key][0] for f in made.values()]), dtype)
      for key, (_, dtype) in made[first].items()
      if key != "inputs"
    }

  def bind(self, tokenizer, length: int):
    """`apply(rows, keys) -> features`, TensorFlow ops.

    Raises:
      UserError: as of `features` and of the parts, or a prefix that is no
        token.
    """
    features, parts = self.features(length), self.built
    prefixes = [_prefix_id(tokenizer, part.prefix) for part in parts]
    bound = [
      part.corruption.bind(tokenizer, part.inner(length)) for part in parts
    ]
    from jaxlm.data.corruption import _mixture

    return _mixture.bind(
      bound,
      widths=self._widths(length),
      prefixes=prefixes,
      rates=[part.rate for part in parts],
      features=features,
      pad=tokenizer.pad_id,
    )

  def taken(self, length: int):
    """`take(text, keys)`: the window of each row that its part gets."""
    from jaxlm.data.corruption import _mixture

    parts = self.built
    whole = lambda length: lambda text, keys: text
    takes = [getattr(part.corruption, "taken", whole) for part in parts]
    return _mixture.taken(
      [take(part.inner(length)) for take, part in zip(takes, parts)],
      widths=self._widths(length),
      rates=[part.rate for part in parts],
    )

  def _widths(self, length: int) -> list[int]:
    """Tokens of text that each part takes."""
    return [p.corruption.text_length(p.inner(length)) for p in self.built]


def _largest(shapes) -> tuple[int, ...]:
  return tuple(map(max, zip(*shapes)))


def _check(name, part) -> None:
  where = f"data.corruption.parts.{name}"
  if not isinstance(part, Mapping) or "corruption" not in part:
    raise UserError(
      f"{where} is {part!r}; expected dict(rate=..., "
      "corruption=dict(kind=...))."
    )
  for key in part:
    if key not in _FIELDS:
      raise unknown(f"{where} takes no", key, _FIELDS)
  rate = part.get("rate")
  if isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
    raise UserError(
      f"{where}.rate is {rate!r}; it is a number above 0. Leave out a part "
      "that is not wanted."
    )
  corruptions.build(part["corruption"])


def _prefix_id(tokenizer, prefix: str) -> int | None:
  if not prefix:
    return None
  found = tokenizer.token_to_id(prefix)
  if found is None:
    raise UserError(
      f"data.corruption puts '{prefix}' in front of its inputs, and the "
      f"tokenizer has no such token: set config.tokenizer.extra=('{prefix}',)."
    )
  return found
