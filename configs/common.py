"""What every config starts from, and the lookup of its variants."""

from ml_collections import ConfigDict

from jaxlm import configuration, errors


def base() -> ConfigDict:
  """All canonical keys with their defaults.

  Not type-safe: a duration is a number or words, such as "3 epochs".
  """
  return ConfigDict(configuration.defaults(), type_safe=False)


def size(sizes: dict, variant: str):
  """The entry of a variant.

  Raises:
    UserError: no such variant.
  """
  if variant not in sizes:
    raise errors.unknown("This config has no variant", variant, sizes)
  return sizes[variant]
