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


def small(config: ConfigDict, rate: float = 2e-3) -> ConfigDict:
  """Lets a config of tiny shapes learn from context within 300 steps.

  So narrow a model needs larger draws and rates than the published ones, and
  no dropout.
  """
  config.batch_size, config.microbatches = 32, 1
  config.optimizer.learning_rate = rate
  config.schedule.warmup = 0.1
  steady(config.model)
  return config


def steady(part: ConfigDict) -> None:
  """No dropout, and draws that a narrow model learns fast from, in place."""
  for name, value in part.items():
    if name.endswith("dropout"):
      part[name] = 0.0
    elif name == "initializer" and "std" in value and not value.get("fan_in"):
      value.std = 0.08
    elif isinstance(value, ConfigDict):
      steady(value)
