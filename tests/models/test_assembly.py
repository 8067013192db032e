"""Mistakes in config.model are told in a sentence."""

import pytest

from jaxlm.errors import UserError
from jaxlm.models import assembly
from tests import tiny


def spec(**changes):
  return tiny.model_spec(**changes)


def layers(**changes):
  return dict(layer=tiny.layer() | changes)


def without(key):
  changed = spec()
  del changed[key]
  return changed


CASES = {
  "key": (
    spec(widht=32),
    "config.model has no key 'widht'. Did you mean 'width'?",
  ),
  "kind": (
    spec(kind="encodr"),
    "No model is of kind 'encodr'. Did you mean 'encoder'? Known:",
  ),
  "no width": (without("width"), "config.model has no 'width'"),
  "no kind": (without("kind"), "config.model has no 'kind'"),
  "no embeddings": (without("embeddings"), "config.model has no 'embeddings'"),
  "no positions": (without("positions"), "config.model has no 'positions'"),
  "no layers": (
    without("layers") | {"order": ()},
    "config.model has no layers",
  ),
  "order": (
    spec(order=("layer", "lyer")),
    "config.model.order names a layer that config.model.layers has not, "
    "'lyer'. Did you mean 'layer'?",
  ),
  "slot": (
    spec(layers=layers(mixr=dict(kind="attention"))),
    "config.model.layers.layer has no slot 'mixr'. Did you mean 'mixer'?",
  ),
  "missing slot": (
    spec(layers=dict(layer=dict(mixer=dict(kind="attention", heads=4)))),
    "config.model.layers.layer has no 'block'",
  ),
  "mixer": (
    spec(layers=layers(mixer=dict(kind="atention", heads=4))),
    "No mixer is of kind 'atention'. Did you mean 'attention'?",
  ),
  "field": (
    spec(layers=layers(mixer=dict(kind="attention", head=4))),
    "mixer 'attention' takes no head. Did you mean 'heads'?",
  ),
  "missing field": (
    spec(layers=layers(mixer=dict(kind="attention"))),
    "mixer 'attention' needs a value for heads.",
  ),
  "feedforward": (
    spec(layers=layers(feedforward=dict(kind="mpl", hidden=4))),
    "No feedforward is of kind 'mpl'. Did you mean 'mlp'?",
  ),
  "block": (
    spec(layers=layers(block=dict(kind="prenorm"))),
    "No block is of kind 'prenorm'. Did you mean 'pre_norm'?",
  ),
  "stack": (
    spec(stack=dict(kind="scann")),
    "No stack is of kind 'scann'. Did you mean 'scan'?",
  ),
  "norm": (
    spec(norm=dict(kind="layernorm")),
    "No norm is of kind 'layernorm'. Did you mean 'layer_norm'?",
  ),
  "norm field": (
    spec(norm=dict(kind="layer_norm", eps=1e-5)),
    "norm 'layer_norm' takes no eps.",
  ),
  "head": (
    spec(heads=dict(lm=dict(kind="maskd_lm"))),
    "No head is of kind 'maskd_lm'. Did you mean 'masked_lm'?",
  ),
  "head without classes": (
    spec(heads=dict(classify=dict(kind="classify"))),
    "head 'classify' needs a value for classes.",
  ),
  "positions": (
    spec(positions=dict(kind="aliby")),
    "No position is of kind 'aliby'. Did you mean 'alibi'?",
  ),
  "heads that differ": (
    spec(
      positions=dict(kind="alibi"),
      layers=dict(a=tiny.layer(), b=tiny.layer(mixer=dict(heads=2))),
      order=("a", "b"),
    ),
    "'alibi', a score bias of 4 heads, but config.model.layers.b.mixer has 2",
  ),
  "positions of a mixer": (
    spec(
      layers=dict(layer=tiny.layer(mixer=dict(positions=dict(kind="alibi"))))
    ),
    "position 'alibi' does not act inside a mixer: give it as "
    "config.model.positions.",
  ),
  "initializer": (
    spec(initializer=dict(sdt=0.1)),
    "config.model.initializer has no key 'sdt'. Did you mean 'std'?",
  ),
  "decoder": (
    spec(kind="decoder"),
    "config.model.layers.layer.mixer is not causal, but the model is a "
    "decoder: set causal=True, or take kind='encoder'.",
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes_are_told(name):
  bad, words = CASES[name]
  with pytest.raises(UserError) as error:
    assembly.build(bad)
  assert words in str(error.value)


def test_a_vocabulary_is_needed():
  with pytest.raises(UserError, match="needs a value for vocab_size"):
    assembly.build(without("vocab_size"))


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    (dict(order=("a", "b"), depth=5), ("a", "b", "a", "b", "a")),
    (dict(order=("b", "a", "a")), ("b", "a", "a")),
    (dict(order=("a",), depth=0), ("a",)),
  ],
)
def test_depth_repeats_the_order(changes, expected):
  palette = dict(a=tiny.layer(), b=tiny.layer())
  changed = spec(layers=palette) | changes
  assert assembly.layer_order(changed) == expected


def test_the_palette_is_the_order_where_none_is_given():
  changed = without("order") | {"layers": dict(a=tiny.layer(), b=tiny.layer())}
  assert assembly.layer_order(changed) == ("a", "b")


def test_what_a_config_sets_comes_before_what_data_tell():
  model = assembly.build(
    spec(
      heads=dict(
        told=dict(kind="classify", classes=7), given=dict(kind="classify")
      )
    ),
    classes=3,
  )
  assert model.heads["told"].classes == 7
  assert model.heads["given"].classes == 3


def test_dropout_of_the_model_reaches_its_places():
  """Blocks, embeddings and heads; mixers have a rate of their own."""
  model = assembly.build(
    spec(dropout=0.3, heads=dict(tag=dict(kind="tag", classes=2)))
  )
  block = model.stack.layers[0]
  assert (model.dropout, block.dropout) == (0.3, 0.3)
  assert model.heads["tag"].dropout == 0.3
  assert block.mixer.dropout == 0.0


def test_the_initializer_knows_the_depth():
  model = assembly.build(spec(depth=6, initializer=dict(scaled_output=True)))
  assert model.stack.layers[0].mixer.initializer.depth == 6
