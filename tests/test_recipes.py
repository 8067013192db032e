"""Every shipped config: the tiny one builds, the others have their shapes."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxlm import configuration, errors, paths, recipe
from jaxlm.models import assembly, two_tower

NAMES = sorted(
  p.stem
  for p in configuration.SHIPPED.glob("*.py")
  if p.stem not in ("__init__", "common", "finetune")
)
VARIANTS = [
  (name, variant)
  for name in NAMES
  for variant in importlib.import_module(f"configs.{name}").SIZES
  # A config that starts from a checkpoint has no model of its own.
  if "kind" in configuration.load(f"{name}:{variant}").model
]

# Of the whole pre-training model, heads included (sheets bert, roberta,
# gpt-2, mosaicbert, modernbert).
PUBLISHED = {
  ("bert", "base"): 110_106_428,
  ("bert", "large"): 336_226_108,
  ("roberta", "base"): 124_697_433,
  ("roberta", "large"): 355_412_057,
  ("gpt2", "small"): 124_439_808,
  ("gpt2", "medium"): 354_823_168,
  ("gpt2", "large"): 774_030_080,
  ("gpt2", "xl"): 1_557_611_200,
  ("t5", "small"): 60_506_624,
  ("t5", "base"): 222_903_552,
  ("t5", "v1_1_small"): 76_961_152,
  ("t5", "v1_1_base"): 247_577_856,
  ("bart", "base"): 139_420_416,
  ("bart", "large"): 406_291_456,
  ("mosaicbert", "base"): 137_400_384,
  ("mosaicbert", "large"): 435_221_312,
  ("modernbert", "base"): 149_655_232,
  # 2 * 32000 * 512 + 8 * (4 * 512**2 + 3 * 512 * 1376 + 2 * 512) + 512.
  ("galore", "60m"): 58_073_600,
  # The sheet's 80.27M, 115.6M (called 110M), 259.1M and 341.0M.
  ("m2bert", "80m"): 80_267_328,
  ("m2bert", "base"): 115_583_616,
  ("m2bert", "260m"): 259_133_760,
  ("m2bert", "large"): 341_038_144,
}


def shapes(name, variant):
  config = configuration.complete(configuration.load(f"{name}:{variant}"))
  model = assembly.build(
    config["model"], vocab_size=config["tokenizer"]["vocab_size"]
  )
  batch = {"inputs": jnp.ones((1, 8), jnp.int32)}
  return jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), batch)))[
    "params"
  ]


@pytest.mark.parametrize(
  "name, variant",
  [
    pytest.param(
      *each,
      marks=()
      if each in PUBLISHED  # tiny ones are built by other tests
      else pytest.mark.slow,
    )
    for each in VARIANTS
  ],
)
def test_every_variant_has_shapes(name, variant):
  params = shapes(name, variant)
  count = paths.count(params)
  assert count > 0
  expected = PUBLISHED.get((name, variant))
  assert expected is None or count == expected


@pytest.mark.parametrize(
  "variant, with_pooler",
  [
    ("google_tiny", 4_385_920),
    ("mini", 11_170_560),
    ("small", 28_763_648),
    ("medium", 41_373_184),
    ("base", 109_482_240),
    ("large", 335_141_888),
  ],
)
def test_bert_has_the_published_parameters(variant, with_pooler):
  params = shapes("bert", variant)
  pooler = params["heads_next_sentence"]["pooler"]
  body = {k: v for k, v in params.items() if not k.startswith("heads_")}
  assert paths.count(body) + paths.count(pooler) == with_pooler


@pytest.mark.parametrize(
  "variant, count",
  [("small", 13_549_057), ("base", 109_483_009), ("large", 335_142_913)],
)
def test_electra_discriminators_have_the_published_parameters(variant, count):
  """14M, 110M and 335M; the exact ones are transformers'."""
  spec = configuration.load(f"electra:{variant}").model.to_dict()
  params = shapes("electra", variant)
  assert paths.count(two_tower.TwoTower.exported(spec, params)[1]) == count


@pytest.mark.parametrize("name", ["t5", "eelbert"])
def test_a_tokenizer_larger_than_the_table_is_told(name):
  """Rows that are not there would be read as NaN."""
  config = dict(model=configuration.load(f"{name}:tiny").model.to_dict())
  config["model"]["vocab_size"] = 512
  with pytest.raises(errors.UserError, match="has 513 tokens but .* only 512"):
    recipe.model_spec(config, dict(vocab_size=513, pieces=["a"] * 513))
  assert recipe.model_spec(config, dict(vocab_size=512, pieces=["a"] * 512))
