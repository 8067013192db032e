"""Arrangements: how documents become rows of a fixed number of tokens.

An arrangement is a frozen dataclass with

  sentences: whether it needs documents cut into sentences.
  packs: whether a row may hold documents that must not see each other.
  plan(pieces, frame, width) -> Plan

of at least one document, and decides from lengths alone; tokens are copied
later, by `fill`. So a corpus larger than memory can be arranged: a plan takes
some 20 bytes a document.
"""

from jaxlm.data.arrangements._plan import Frame, Pieces, Plan, fill
from jaxlm.registry import Registry

arrangements = Registry("arrangement", __name__)

__all__ = ["Frame", "Pieces", "Plan", "arrangements", "fill"]
