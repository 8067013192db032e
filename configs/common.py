"""What every config starts from: all canonical keys with their defaults."""

from ml_collections import ConfigDict


def base() -> ConfigDict:
  """The canonical keys; a paper's config sets what differs.

  Durations (`steps`, `every`, `warmup`) and the slots (`kind`) are explained
  in docs/design.md.
  """
  config = ConfigDict()
  config.seed = 0
  config.steps = 10_000
  config.batch_size = 256
  config.microbatches = 1
  # bfloat16 on GPU and TPU, float32 on CPU, whose bfloat16 is slow.
  config.precision = dict(compute="auto", params="float32")
  config.clip_norm = 1.0
  config.data = dict(kind="packed", files="", length=128)
  config.tokenizer = dict(kind="wordpiece", vocab_size=32_768)
  config.model = dict()
  config.objective = dict(kind="masked_lm")
  config.optimizer = dict(kind="adamw", learning_rate=1e-4)
  config.schedule = dict(kind="linear", warmup=0.06)
  config.checkpoint = dict(every=1000, keep=3)
  config.log = dict(every=50)
  config.evaluation = dict(every=1000, batches=16)
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  config.init_from = ""
  config.cost = dict(
    dollars_per_device_hour=0.0,
    watts_per_device=0.0,
    kg_co2e_per_kwh=0.0,
    peak_flops=0.0,
  )
  return config


def size(sizes: dict, variant: str):
  """The entry of a variant.

  Raises:
    UserError: no such variant.
  """
  from jaxlm import errors  # configs stay importable without jaxlm installed

  if variant not in sizes:
    raise errors.unknown("This config has no variant", variant, sizes)
  return sizes[variant]
