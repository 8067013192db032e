"""What the data tell parts that their specs need not say.

A head or an embedding takes one as its static `told`: facts of prepared data
(docs/design.md) to values of its fields, {} where the data do not know.
`jaxlm.recipe.model_spec` fills them in where the spec leaves them unset.
"""

from collections.abc import Mapping
from typing import Any


def classes(facts: Mapping[str, Any]) -> dict[str, int]:
  """`classes`: how many labels there are."""
  found = len(facts.get("classes", ()))
  return {"classes": found} if found else {}


def vector_width(facts: Mapping[str, Any]) -> dict[str, int]:
  """`vector_width`: numbers of a word's vector."""
  vectors = facts.get("vectors")
  return {"vector_width": vectors["width"]} if vectors else {}


def vocabulary(facts: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
  """`vocabulary`: the text of every token."""
  return {"vocabulary": tuple(facts["pieces"])} if "pieces" in facts else {}
