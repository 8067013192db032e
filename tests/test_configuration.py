"""Config files, overrides, and what a mistake in them says."""

import pytest

from jaxlm import configuration
from jaxlm.errors import UserError


@pytest.fixture
def config():
  return configuration.load("mosaicbert:tiny")


def test_shipped_config_is_found_by_name_and_by_path():
  by_name = configuration.load("mosaicbert:tiny")
  by_path = configuration.load("configs/mosaicbert.py:tiny")
  assert by_name.to_dict() == by_path.to_dict()
  assert by_name.model.width == 32


def test_unknown_config_names_the_nearest():
  with pytest.raises(UserError, match="Did you mean 'mosaicbert'"):
    configuration.load("mosaicbirt:tiny")


def test_unknown_variant_names_the_nearest():
  with pytest.raises(UserError, match="'tinny'. Did you mean 'tiny'"):
    configuration.load("bert:tinny")


def test_own_config_file(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from configs import common\n"
    "def get_config(variant='a'):\n"
    "  config = common.base()\n"
    "  config.seed = len(variant)\n"
    "  return config\n"
  )
  assert configuration.load(f"{path}:abc").seed == 3
  path.write_text("x = 1\n")
  with pytest.raises(UserError, match="no function get_config"):
    configuration.load(str(path))
  path.write_text("def get_config(:\n")
  with pytest.raises(UserError, match="mine.py, line 1"):
    configuration.load(str(path))


@pytest.mark.parametrize(
  "key, text, expected",
  [
    ("optimizer.learning_rate", "1e-2", 1e-2),
    ("batch_size", "64", 64),
    ("batch_size", "1e2", 100),
    ("steps", "24h", "24h"),
    ("steps", "3 epochs", "3 epochs"),
    ("steps", "1e3", 1000),
    ("schedule.warmup", "0.1", 0.1),
    ("schedule.warmup", "100", 100.0),
    ("data.files", "corpus/*.txt", "corpus/*.txt"),
    ("data.files", "123", "123"),
    ("data.corruption.rate", "0.4", 0.4),
    ("model.order", "layer,layer", ("layer", "layer")),
    ("model.layers.layer.mixer.window", "8", 8),
    ("tokenizer.lowercase", "True", True),
  ],
)
def test_override_sets_a_value_of_the_right_type(config, key, text, expected):
  configuration.override(config, [(key, text)])
  node = config
  for part in key.split("."):
    node = node[part]
  value = tuple(node) if isinstance(expected, tuple) else node
  assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
  "text", ["dict(kind='wsd', decay=0.2)", "{'kind': 'wsd', 'decay': 0.2}"]
)
def test_a_part_is_replaced_as_a_whole(config, text):
  configuration.override(config, [("schedule", text)])
  assert config.schedule.to_dict() == {"kind": "wsd", "decay": 0.2}


@pytest.mark.parametrize(
  "key, text, message",
  [
    ("batchsize", "1", "has no key 'batchsize'. Did you mean 'batch_size'"),
    ("chekpoint.every", "1", "Did you mean 'checkpoint'"),
    ("checkpoint.evry", "1", "'evry'. Did you mean 'every'"),
    ("batch_size", "many", "config.batch_size is 32, a int; found 'many'"),
    ("batch_size", "1.5", "found '1.5'"),
    ("tokenizer.lowercase", "maybe", "found 'maybe'"),
    ("seed.x", "1", "config.seed is a value"),
    ("schedule", "fast", "config.schedule is dict.*'linear'.*'fast'"),
  ],
)
def test_bad_override_says_what_is_wrong(config, key, text, message):
  with pytest.raises(UserError, match=message):
    configuration.override(config, [(key, text)])


def test_arguments_are_split_from_overrides():
  taken, rest = configuration.split_args(
    ["--config=a:b", "--config.x.y=1", "--dry_run", "--config.z", "2"]
  )
  assert taken == [("x.y", "1"), ("z", "2")]
  assert rest == ["--config=a:b", "--dry_run"]


def test_complete_fills_defaults_and_refuses_unknown_keys():
  whole = configuration.complete({"seed": 5, "checkpoint": {"every": 7}})
  assert whole["seed"] == 5
  assert whole["checkpoint"] == {"every": 7, "keep": 3}
  with pytest.raises(UserError, match="Did you mean 'optimizer'"):
    configuration.complete({"optimiser": {}})
  with pytest.raises(UserError, match="config.mesh has no key 'tensors'"):
    configuration.complete({"mesh": {"tensors": 2}})
