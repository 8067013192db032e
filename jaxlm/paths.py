"""Parameters by path: 'stack/layer_0/mixer/query/kernel' -> leaf."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxlm import errors


def name(path) -> str:
  """A jax key path as 'a/b/c'."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(tree) -> dict[str, Any]:
  """{'a/b/c': leaf} in tree order."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {name(path): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Nested dicts from {'a/b/c': leaf}; the inverse of `flatten`."""
  tree: dict[str, Any] = {}
  for path, leaf in leaves.items():
    *parents, last = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def like(tree, leaves: Mapping[str, Any]):
  """`tree` with the leaves at the paths of `leaves` replaced by those."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaves.get(name(path), leaf), tree
  )


def label(tree, rules: Sequence[tuple[str, Any]]):
  """The tree with each leaf replaced by the value of the first rule it meets.

  Args:
    tree: any pytree.
    rules: (regular expression, value); the expression is searched in the
      path. Every leaf must be covered.

  Raises:
    UserError: some leaves meet no rule; they are listed.
  """
  compiled = [(re.compile(pattern), value) for pattern, value in rules]
  left = []

  def first(path, _):
    for pattern, value in compiled:
      if pattern.search(name(path)):
        return value
    left.append(name(path))

  labels = jax.tree_util.tree_map_with_path(first, tree)
  if left:
    raise errors.UserError(
      f"No rule covers these parameters: {', '.join(left)}. "
      f"Rules: {', '.join(pattern for pattern, _ in rules)}."
    )
  return labels


def count(tree) -> int:
  """Number of scalars in a tree of arrays or shapes."""
  return sum(leaf.size for leaf in jax.tree_util.tree_leaves(tree))
