"""Speech to children with a share of variation sets (arXiv:2411.09587).

Haga et al., "BabyLM Challenge: Exploring the Effect of Variation Sets on
Language Model Training Efficiency", 2024: the words of training are fixed, a
share of them stands in variation sets, the rest is speech whose own sets are
broken by shuffling. Utterances of a set are presented one after the other in
one context (`presentation="together"`, rows of running text), one after the
other in time (rows of one utterance, `order=dict(kind="lanes")`), or in
random order (`presentation="shuffled"`): the control.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxlm import errors
from jaxlm import files as io
from jaxlm.data import datasets
from jaxlm.data.orders import orders
from jaxlm.data.packed import Packed
from jaxlm.data.variation import _mixing, variations

PRESENTATIONS = ("together", "shuffled")


@datasets.register(
  "variation_sets",
  paper="arXiv:2411.09587",
  example={"files": "childes/*.txt"},
)
@dataclasses.dataclass(frozen=True)
class VariationSets(Packed):
  """Packed text of utterances, some of them in variation sets.

  A document of the files is a transcript and each of its lines an utterance;
  every utterance becomes a document, in the order of presentation. Held-out
  transcripts stay as they are.

  Attributes:
    sets: where variation sets come from; a part of `jaxlm.data.variation`.
    share: of the words that stand in sets.
    words: of the training text; 0 for as many as the files have.
    presentation: "together" or "shuffled".
    mixing_seed: of what is chosen and of its order.
  """

  arrangement: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "chunks"}
  )
  corruption: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "causal"}
  )
  order: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "kept"}
  )
  sets: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: {"kind": "rules"}
  )
  share: float = 0.4
  words: int = 0
  presentation: str = "together"
  mixing_seed: int = 0

  def __post_init__(self):
    super().__post_init__()
    variations.build(self.sets)
    if not 0 <= self.share <= 1:
      raise errors.UserError(
        f"data.share is {self.share}; it is a share of words, 0 to 1."
      )
    if self.presentation not in PRESENTATIONS:
      raise errors.unknown(
        "There is no data.presentation", self.presentation, PRESENTATIONS
      )
    if self._run and self.arrangement["kind"] != "separate":
      raise errors.UserError(
        "data.order 'lanes' follows single utterances, and the arrangement "
        f"'{self.arrangement['kind']}' puts several in a row: set "
        "config.data.arrangement=dict(kind='separate')."
      )

  @property
  def _run(self) -> int:
    """Utterances that follow each other in time; 0 where none need to."""
    return getattr(orders.build(self.order), "steps", 0)

  @functools.cached_property
  def mixed(self) -> tuple[list[str], dict[str, Any]]:
    """The utterances of training in their order, and what they are made of.

    Raises:
      UserError: files that cannot be read, or too few words.
    """
    transcripts = [
      utterances_of(text) for split, text in super().texts() if split == "train"
    ]
    rng = np.random.default_rng(self.mixing_seed)
    made = _mixing.mix(
      transcripts,
      variations.build(self.sets).sets(transcripts, rng),
      share=self.share,
      words=self.words,
      run=self._run,
      rng=rng,
    )
    together = self.presentation == "together"
    return made.utterances(None if together else rng), made.facts

  def prepare(self, *, report=print, **given):
    """As of `Packed`; the report tells the realised share."""
    made = super().prepare(report=report, **given)
    told = made.facts["variation_sets"]
    report(
      f"Variation sets: {told['sets']:,} sets, "
      f"{told['share_of_words']:.2%} of {told['words']:,} words and "
      f"{told['share_of_utterances']:.2%} of {told['utterances']:,} "
      "utterances."
    )
    return made

  def facts(self, tokenizer, cache) -> dict[str, Any]:
    """As of `Packed`, and what was mixed.

    Raises:
      UserError: utterances without tokens where rows must be whole runs.
    """
    found = super().facts(tokenizer, cache)
    if self._run and (empty := found["train"]["empty_documents"]):
      raise errors.UserError(
        f"{empty} utterances hold no token for this tokenizer, so that rows "
        "are no whole runs of data.order 'lanes': take them out of data.files."
      )
    return {**found, "variation_sets": self.mixed[1]}

  def texts(self) -> Iterator[tuple[str, str]]:
    for utterance in self.mixed[0]:
      yield "train", utterance
    for split, text in super().texts():
      if split == "validation":
        for utterance in utterances_of(text):
          yield split, utterance

  def reading(self) -> dict[str, Any]:
    mixing = {
      name: getattr(self, name)
      for name in ("share", "words", "presentation", "mixing_seed")
    }
    source = variations.build(self.sets)
    read = source.fingerprint() if hasattr(source, "fingerprint") else []
    mixing |= {"sets": io.digest([dict(self.sets), read]), "run": self._run}
    return {**super().reading(), "mixing": mixing}


def utterances_of(transcript: str) -> list[str]:
  """The lines of a transcript that are not blank, single spaces in them."""
  lines = (" ".join(line.split()) for line in transcript.split("\n"))
  return [line for line in lines if line]
