"""The enhanced mask decoder (arXiv:2006.03654, section 3.2)."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import deberta
from jaxlm.errors import UserError
from jaxlm.interop import layout
from jaxlm.models import assembly
from jaxlm.models.mask_decoding import MaskDecodingEncoder
from tests import tiny
from tests.test_recipes import shapes as recipe_shapes


class OneStep(MaskDecodingEncoder):
  """Decodes in one pass of the last layer."""

  steps = 1


def spec(**changes):
  made = deberta.model("v2", 3, tiny.WIDTH, tiny.HEADS, 48)
  made["positions"] |= dict(buckets=8, max_distance=32, max_length=20)
  made["heads"] = dict(made["heads"], tag=dict(kind="tag", classes=3))
  return made | changes


@functools.cache
def built():
  return tiny.build(spec(stack=dict(kind="sequential")))


def outputs(model, variables):
  return jax.jit(model.apply)(variables, tiny.batch())


def with_table(variables, values):
  part = {**variables["params"]["positions"], "table": values}
  return {"params": {**variables["params"], "positions": part}}


def test_one_pass_without_positions_is_the_last_layer():
  model, variables = built()
  parts = {
    f.name: getattr(model, f.name)
    for f in dataclasses.fields(model)
    if f.name not in ("parent", "name")
  }
  table = variables["params"]["positions"]["table"]
  silent = with_table(variables, jnp.zeros_like(table))
  plain = assembly.build(
    spec(kind="encoder", stack=dict(kind="sequential")), vocab_size=tiny.VOCAB
  )
  found, expected = outputs(OneStep(**parts), silent), outputs(plain, silent)
  for name in ("hidden", "masked_lm", "tag"):
    np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
  twice = outputs(model, silent)["masked_lm"]
  assert np.abs(twice - expected["masked_lm"]).max() > 0.1


def test_absolute_positions_reach_masked_tokens_alone():
  model, variables = built()
  table = variables["params"]["positions"]["table"]
  first = outputs(model, variables)
  second = outputs(model, with_table(variables, table[::-1]))
  np.testing.assert_array_equal(first["hidden"], second["hidden"])
  np.testing.assert_array_equal(first["tag"], second["tag"])
  assert np.abs(first["masked_lm"] - second["masked_lm"]).max() > 0.1


def test_the_last_layer_is_shared_and_states_are_kept_once():
  model, variables = built()
  layers = [k for k in variables["params"]["stack"]]
  assert sorted(layers) == ["layers_0", "layers_1", "layers_2"]
  _, state = model.apply(
    variables, tiny.batch(), capture={"hidden"}, mutable=["intermediates"]
  )
  assert len(state["intermediates"]["stack"]["hidden"]) == 3


def test_scanned_layers_decode_alike():
  model, variables = built()
  scanned = spec(stack=dict(kind="scan"), depth=3)
  arrays = layout.flat(variables["params"], spec(stack=dict(kind="sequential")))
  again = {"params": layout.tree(arrays, scanned)}
  other = assembly.build(scanned, vocab_size=tiny.VOCAB)
  found, expected = outputs(other, again), outputs(model, variables)
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=5e-5, err_msg=name)


def test_what_is_exported_is_the_encoder():
  model, variables = built()
  made, params = MaskDecodingEncoder.exported(
    spec(stack=dict(kind="sequential")), variables["params"]
  )
  assert (made["kind"], list(made["heads"])) == ("encoder", ["tag"])
  assert "heads_masked_lm" not in params and "heads_tag" in params
  other = assembly.build(made, vocab_size=tiny.VOCAB)
  # Operation by operation: XLA may fuse two programs in different ways.
  np.testing.assert_array_equal(
    other.apply({"params": params}, tiny.batch())["tag"],
    model.apply(variables, tiny.batch())["tag"],
  )


LAST = spec()["layers"]["last"]


@pytest.mark.parametrize(
  "changes, reason",
  [
    (dict(positions=dict(kind="disentangled")), "max_length"),
    (
      dict(
        positions=dict(kind="disentangled", max_length=20, biased_input=True)
      ),
      "without biased_input",
    ),
    (dict(order=("last",)), "at least two layers"),
    (dict(final_norm=True), "leave it out"),
    (
      dict(
        layers=spec()["layers"]
        | dict(last={**LAST, "block": dict(kind="pre_norm")})
      ),
      "keys and values may be apart",
    ),
    (
      dict(order=("first", "layer", "layer"), stack=dict(kind="scan")),
      "a name of its own",
    ),
  ],
)
def test_what_cannot_decode_masks_is_refused(changes, reason):
  model = assembly.build(spec(**changes), vocab_size=tiny.VOCAB)
  with pytest.raises(UserError, match=reason):
    tiny.shapes(model, tiny.batch())


@pytest.mark.parametrize(
  "variant, expected",
  [
    ("v3_xsmall", 21_491_712),
    ("v3_small", 42_923_520),
    ("v3_base", 85_450_752),
    ("v3_large", 302_837_760),
  ],
)
def test_v3_bodies_have_the_published_parameters(variant, expected):
  """All but the token table, as the release counts, and the decoder's own."""
  params = nn.meta.unbox(recipe_shapes("deberta", variant))
  body = {k: v for k, v in params.items() if not k.startswith("heads_")}
  total = sum(leaf.size for leaf in jax.tree.leaves(body))
  apart = body["embeddings"]["table"].size + body["positions"]["table"].size
  assert total - apart == expected
