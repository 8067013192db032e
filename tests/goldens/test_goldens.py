"""Frozen results of transformers, through our import, without PyTorch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxlm import interop
from jaxlm.models import assembly, generation
from tests.goldens import formula

HERE = pathlib.Path(__file__).parent
VOCAB, ROWS, LENGTH, REAL, PAD = 37, 2, 9, 6, 1
NAMES = ("bert", "roberta", "gpt2", "modernbert", "mosaicbert")


def inputs(types):
  mask = np.ones((ROWS, LENGTH), np.int32)
  mask[1, REAL:] = 0
  tokens = formula.tokens(VOCAB, ROWS, LENGTH)
  made = {"inputs": np.where(mask, tokens, PAD), "segments": mask}
  if types:
    made["types"] = np.where(mask, np.arange(LENGTH) >= 4, 0).astype(np.int32)
  return made


def folder(name, path):
  """The folder that transformers would have written."""
  about = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
  tensors = {n: formula.weight(n, s) for n, s in about["tensors"].items()}
  (path / "config.json").write_text(json.dumps(about["config"]))
  safetensors.numpy.save_file(tensors, path / "model.safetensors")
  return interop.import_folder(path, dtype=np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name, tmp_path):
  found = folder(name, tmp_path)
  assert found.ignored == ()
  batch = inputs(name in ("bert", "mosaicbert"))
  expected = np.load(HERE / f"{name}.npz")
  with jax.enable_x64(True):
    model = assembly.build(
      found.model, dtype=jnp.float64, param_dtype=jnp.float64
    )
    made = jax.jit(model.apply)({"params": found.params}, batch)
    made = {k: np.asarray(v) for k, v in made.items()}
  only = next(iter(found.model["heads"]))
  real = batch["segments"] > 0
  for key in set(expected.files) - {"generated"}:
    ours = made[only if key == "logits" else key]
    if key == "next_sentence":
      np.testing.assert_allclose(ours[:, 0], expected[key], atol=1e-9)
      continue
    assert np.ptp(expected[key]) > 1.0
    np.testing.assert_allclose(ours[real], expected[key][real], atol=1e-9)


def test_greedy_continuation_is_that_of_transformers(tmp_path):
  found = folder("gpt2", tmp_path)
  expected = np.load(HERE / "gpt2.npz")["generated"]
  with jax.enable_x64(True):
    tokens = generation.generate(
      assembly.build(found.model, dtype=jnp.float64, param_dtype=jnp.float64),
      {"params": jax.tree.map(jnp.asarray, found.params)},
      jnp.asarray(formula.tokens(VOCAB, ROWS, 5)),
      max_new_tokens=8,
      key=jax.random.key(0),
    )
  assert np.array_equal(tokens, expected)


def test_the_formula_is_frozen():
  # Another formula would make all goldens wrong at once.
  expected = [0.36161156, 0.18789017, 0.0460295]
  np.testing.assert_allclose(formula.weight("a", (3,)), expected, atol=1e-8)
  assert abs(formula.weight("b", (5000,)).std() - 0.3) < 0.01
