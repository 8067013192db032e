"""The sentences of errors."""

from jaxlm import errors


def test_nearest_names_the_closest_or_nothing():
  assert (
    errors.nearest("wrmup", ["warmup", "peak"]) == " Did you mean 'warmup'?"
  )
  assert errors.nearest("xyz", ["warmup", "peak"]) == ""
  assert errors.nearest("x", []) == ""


def test_unknown_says_what_was_found_and_what_is_known():
  error = errors.unknown("config has no key", "sed", ["steps", "seed"])
  assert isinstance(error, errors.UserError)
  assert str(error) == (
    "config has no key 'sed'. Did you mean 'seed'? Known: seed, steps."
  )


def test_unknown_takes_names_that_are_no_strings():
  assert "Known: 1, 2." in str(errors.unknown("No size", 3, [2, 1]))


def test_unknown_says_so_where_nothing_is_known():
  assert str(errors.unknown("No head", "tag", [])) == "No head 'tag'."
