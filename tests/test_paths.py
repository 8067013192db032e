"""Parameters by path."""

import jax
import numpy as np
import pytest

from jaxlm import paths
from jaxlm.errors import UserError

TREE = {"a": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "b": np.ones(4)}


def test_flatten_names_leaves_and_unflatten_is_its_inverse():
  flat = paths.flatten(TREE)
  assert list(flat) == ["a/bias", "a/kernel", "b"]
  back = paths.unflatten(flat)
  assert jax.tree.structure(back) == jax.tree.structure(TREE)
  assert back["a"]["kernel"] is TREE["a"]["kernel"]


def test_flatten_names_positions_of_sequences():
  assert list(paths.flatten({"x": [1, (2, 3)]})) == ["x/0", "x/1/0", "x/1/1"]


def test_label_takes_the_first_rule_that_matches():
  labels = paths.label(TREE, [("bias$", "none"), ("^a/", "some"), ("", "all")])
  assert labels == {"a": {"kernel": "some", "bias": "none"}, "b": "all"}


def test_label_takes_none_as_a_value():
  assert paths.label({"a": 1}, [("a", None)]) == {"a": None}


def test_label_lists_what_no_rule_covers():
  with pytest.raises(UserError) as error:
    paths.label(TREE, [("bias", 1)])
  assert str(error.value) == (
    "No rule covers these parameters: a/kernel, b. Rules: bias."
  )


def test_count_takes_arrays_and_shapes():
  assert paths.count(TREE) == 13
  assert paths.count({"x": jax.ShapeDtypeStruct((5, 2), np.float32)}) == 10
