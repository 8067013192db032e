"""Parts that have an oracle of their own in transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.models.llama import modeling_llama as llama  # noqa: E402
from transformers.models.marian import modeling_marian as marian  # noqa: E402
from transformers.models.modernbert import (  # noqa: E402
  modeling_modernbert as modern,
)
from transformers.models.t5 import modeling_t5 as t5  # noqa: E402

from configs import bert, mosaicbert  # noqa: E402
from jaxlm import interop  # noqa: E402
from jaxlm.context import Context  # noqa: E402
from jaxlm.layers.feedforwards import feedforwards  # noqa: E402
from jaxlm.layers.positions.rotary import RotaryPositions  # noqa: E402
from jaxlm.layers.positions.sinusoidal import sinusoids  # noqa: E402
from pallas_kernels.flash_attention import bias  # noqa: E402
from tests.hf import oracle  # noqa: E402

pytestmark = pytest.mark.hf


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets, longest", [(32, 128), (8, 20), (16, 300)])
def test_t5_buckets(bidirectional, buckets, longest):
  distance = np.arange(-400, 401)
  theirs = t5.T5Attention._relative_position_bucket(
    torch.tensor(distance), bidirectional, buckets, longest
  )
  mine = bias.relative_bucket(
    jnp.asarray(distance),
    buckets=buckets,
    max_distance=longest,
    bidirectional=bidirectional,
  )
  assert np.array_equal(mine, theirs)


def test_sinusoids():
  table = marian.MarianSinusoidalPositionalEmbedding(50, 16)
  table.weight = torch.nn.Parameter(table.create_weight())
  mine = sinusoids(jnp.arange(50)[None], 16, 10_000.0)[0]
  oracle.close(mine, table.weight.detach(), 2e-6)


def test_rotary():
  random = np.random.default_rng(0)
  query, key = random.normal(size=(2, 1, 9, 2, 8))
  positions = np.array([[0, 1, 2, 3, 0, 1, 2, 700, 701]])
  rates = 500.0 ** (-np.arange(0, 8, 2) / 8)
  angles = torch.tensor(positions[0, :, None] * np.tile(rates, 2))[None]
  q, k = (torch.tensor(x).transpose(1, 2) for x in (query, key))
  theirs = llama.apply_rotary_pos_emb(q, k, angles.cos(), angles.sin())
  with jax.enable_x64(True):
    part = RotaryPositions(theta=500.0)
    ctx = Context(segments=jnp.ones((1, 9)), positions=jnp.asarray(positions))
    mine = part.apply(
      {}, jnp.asarray(query), jnp.asarray(key), ctx, method="at_query_key"
    )
  for ours, other in zip(mine, theirs):
    oracle.close(ours, other.transpose(1, 2), 1e-9)


@pytest.mark.parametrize("heads", [4, 6])
def test_mosaicbert_attention_is_bert_with_alibi(heads, tmp_path):
  # transformers' BERT takes any additive mask: ALiBi there, positions 0.
  spec = bert.get_config("tiny").model.to_dict()
  spec |= {"vocab_size": 61, "width": 24, "heads": {}}
  spec["layers"]["layer"]["mixer"]["heads"] = heads
  params = oracle.random_params(spec)
  params["positions"]["table"] *= 0.0
  interop.export_folder(tmp_path / "out", model=spec, params=params)
  model = transformers.BertModel.from_pretrained(
    tmp_path / "out", attn_implementation="eager"
  ).eval()
  batch = oracle.batch(61)
  length = oracle.LENGTH
  distance = np.abs(np.arange(length)[:, None] - np.arange(length))
  slopes = np.asarray(bias.alibi_slopes(heads))
  scores = (-slopes[:, None, None] * distance.astype(np.float32)).astype(float)
  hidden = np.finfo(np.float64).min * (1 - batch["segments"])
  mask = scores[None] + hidden[:, None, None, :]
  inputs = dict(
    input_ids=torch.tensor(batch["inputs"]).long(),
    token_type_ids=torch.tensor(batch["types"]).long(),
    attention_mask=torch.tensor(np.maximum(mask, np.finfo(np.float64).min)),
  )
  with torch.no_grad():
    theirs = model(**inputs).last_hidden_state
  alibi = {**spec, "positions": {"kind": "alibi"}}
  kept = {k: v for k, v in params.items() if k != "positions"}
  mine = oracle.run(alibi, kept, batch)["hidden"]
  oracle.close(mine, theirs, 1e-9, batch["segments"])


def test_mosaicbert_feedforward_is_modernberts_with_a_bias():
  config = transformers.ModernBertConfig(hidden_size=24, intermediate_size=40)
  theirs = oracle.draw(modern.ModernBertMLP(config))
  spec = mosaicbert.get_config("tiny").model.layers.layer.feedforward
  random = np.random.default_rng(0)
  x, output_bias = random.normal(size=(2, 5, 24)), random.normal(size=24)
  gate, up = np.split(theirs.Wi.weight.detach().numpy(), 2)
  params = {
    "gate": {"kernel": gate.T},
    "up": {"kernel": up.T},
    "output": {
      "kernel": theirs.Wo.weight.detach().numpy().T,
      "bias": output_bias,
    },
  }
  with jax.enable_x64(True):
    part = feedforwards.build(
      {**spec.to_dict(), "hidden": 40},
      width=24,
      dtype=jnp.float64,
      param_dtype=jnp.float64,
    )
    ctx = Context(segments=jnp.ones((2, 5)), positions=jnp.zeros((2, 5)))
    mine = part.apply({"params": params}, jnp.asarray(x), ctx)
  expected = theirs(torch.tensor(x)).detach().numpy() + output_bias
  oracle.close(mine, expected, 1e-9)
