"""The worked example of CONTRIBUTING.md works as it is printed there."""

import pathlib
import re

import jax
import jax.numpy as jnp

from jaxlm.layers.feedforwards import feedforwards
from jaxlm.models import assembly

PAGE = pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_worked_example():
  module, config, test = re.findall(
    r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S
  )
  feedforwards.kinds()  # discovery first, so that the new kind is only added
  try:
    exec(module, {"__name__": "squared_relu"})
    scope: dict = {}
    exec(config, scope)
    spec = scope["get_config"]("tiny").model.to_dict()
    model = assembly.build(spec, vocab_size=64)
    batch = {"inputs": jnp.ones((1, 8), jnp.int32)}
    out = model.init_with_output(jax.random.key(0), batch)[0]
    assert out["causal_lm"].shape == (1, 8, 64)
    scope = {}
    exec(test, scope)
    scope["test_squared_relu_is_the_papers_formula"]()
  finally:
    feedforwards._entries.pop("squared_relu", None)
