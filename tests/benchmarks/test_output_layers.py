"""The tables and the contenders of benchmarks/output_layers.py."""

import jax
import numpy as np
import pytest

from benchmarks import output_layers
from jaxlm import paths, recipe
from jaxlm.models import assembly

ARGS = output_layers.arguments(
  ["--files=a,b", "--width=32", "--vocabulary=5000", "--cutoffs=200,1000"]
  + [
    "--samples=100",
    "--pieces=300",
    '--vectors={"kind": "hashed", "width": 30}',
  ]
)


@pytest.mark.parametrize("encoder, ways", [("lstm", 2), ("transformer", 1)])
def test_contenders_differ_in_their_output_alone(encoder, ways):
  """Parameters of outputs by hand; all words share one encoder."""
  count, body = {}, {}
  for output in output_layers.OUTPUTS:
    config = output_layers.config_of(encoder, output, ARGS)
    facts = dict(vocab_size=config["tokenizer"]["vocab_size"])
    if output != "subword":
      facts["vectors"] = dict(width=30)
    shapes = recipe.shapes(assembly.build(recipe.model_spec(config, facts)))
    heads = {k: v for k, v in shapes.items() if k.startswith("heads_")}
    count[output] = paths.count(heads)
    body[output] = paths.count(shapes) - count[output]
  words = {output: n for output, n in body.items() if output != "subword"}
  assert len(set(words.values())) == 1
  bias = 1 if ways == 2 else 0  # causal_lm has none
  assert count["continuous"] == ways * (32 * 30 + 30)
  assert count["whole"] == 5000 * (32 + bias)
  assert count["sampled"] == 5000 * 33
  assert count["subword"] == 300 * (32 + bias)
  tails = 202 * 32 + 32 * 8 + 800 * 8 + 32 * 2 + 4000 * 2
  assert count["adaptive"] == tails


def test_tables_show_ratios_of_rounds_beside_what_was_told():
  slow = dict(encoder="lstm", output="sampled", parameters=2e6)
  fast = dict(encoder="lstm", output="continuous", parameters=1e6)
  rows = [fast | dict(seconds=[1.0, 2.0, 1.0])]
  rows += [slow | dict(seconds=[3.0, 4.0, 2.0])]
  last = output_layers.table_of_steps(rows).splitlines()[-1]
  assert "| 2.00M | 3000 | 2.00x (2.00 to 3.00) | 1.91x |" in last
  rows = [dict(row, vocab=8000) for row in rows]
  last = output_layers.table_of_layers(rows).splitlines()[-1]
  assert last == "| 8,000 | sampled | 3000.0 | 2.00x (2.00 to 3.00) |"
  rows = [dict(output="whole", steps=7, accuracy=[0.1, 0.2, 0.3])]
  last = output_layers.table_of_learned(rows).splitlines()[-1]
  assert last == "| whole | 7 | 20.00% ± 10.00 |"


@pytest.mark.parametrize("kind", ["continuous", "adaptive", "sampled", "whole"])
def test_layers_alone_run_forward_and_backward(kind):
  small = output_layers.arguments(["--files=a", "--samples=20"])
  params, hidden = output_layers.layer(kind, 50, small, places=8, width=6)()
  for leaf in jax.tree.leaves((params, hidden)):
    assert np.isfinite(np.asarray(leaf)).all() and np.asarray(leaf).any()
