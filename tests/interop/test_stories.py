"""A real pre-trained model (stories260K, Llama's parts) in our parts."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import interop
from jaxlm.models import assembly, generation

# Eight seconds each, and of parts that are held against transformers too.
pytestmark = pytest.mark.slow


def spec(width, hidden, depth, heads, key_heads, vocab):
  """Llama: rotary positions, RMS norms, SwiGLU, shared keys and values."""
  layer = dict(
    block=dict(kind="pre_norm"),
    mixer=dict(
      kind="attention",
      heads=heads,
      key_heads=key_heads,
      causal=True,
      use_bias=False,
      positions=dict(kind="rotary", theta=10_000.0),
    ),
    feedforward=dict(kind="gated", hidden=hidden, activation="silu"),
  )
  return dict(
    kind="decoder",
    width=width,
    vocab_size=vocab,
    embeddings=dict(kind="token"),
    positions=dict(kind="none"),
    norm=dict(kind="rms_norm", epsilon=1e-5),
    final_norm=True,
    layers=dict(layer=layer),
    order=("layer",),
    depth=depth,
    stack=dict(kind="scan"),
    heads=dict(causal_lm=dict(kind="causal_lm")),
  )


def halves(kernel, heads):
  """From rotary pairs side by side to ours, half a head apart."""
  depth, width, features = kernel.shape
  split = kernel.reshape(depth, width, heads, features // heads // 2, 2)
  return np.swapaxes(split, -1, -2).reshape(kernel.shape)


@pytest.fixture(scope="module")
def story(shared):
  """(spec, params, expected) of the checkpoint."""
  folder = shared / "checkpoints" / "stories260k"
  data = gzip.decompress((folder / "stories260K.bin.gz").read_bytes())
  width, hidden, depth, heads, key_heads, vocab, _ = np.frombuffer(
    data, np.int32, 7
  ).tolist()
  left = np.frombuffer(data, np.float32, offset=28)

  def take(*shape):
    nonlocal left
    size = int(np.prod(shape))
    taken, left = left[:size].reshape(shape), left[size:]
    return taken

  def kernel(out, into):
    return np.swapaxes(take(depth, out, into), 1, 2)

  narrow = width * key_heads // heads
  table = take(vocab, width)
  mixer_norm = take(depth, width)
  query = halves(kernel(width, width), heads)
  key = halves(kernel(narrow, width), key_heads)
  value, output = kernel(narrow, width), kernel(width, width)
  feedforward_norm = take(depth, width)
  gate, down, up = (
    kernel(hidden, width),
    kernel(width, hidden),
    kernel(hidden, width),
  )
  norm = lambda scale: {"norm": {"scale": scale}}
  maps = lambda **kernels: {k: {"kernel": v} for k, v in kernels.items()}
  layer = {
    "mixer_norm": norm(mixer_norm),
    "mixer": maps(query=query, key=key, value=value, output=output),
    "feedforward_norm": norm(feedforward_norm),
    "feedforward": maps(gate=gate, up=up, output=down),
  }
  params = {
    "embeddings": {"table": table},
    "stack": {"loop": {"layers_0": layer}},
    "final_norm": norm(take(width)),
  }
  expected = json.loads((folder / "expected.json").read_text())
  return (
    spec(width, hidden, depth, heads, key_heads, vocab),
    jax.tree.map(jnp.asarray, params),
    expected,
  )


def greedy(spec, params, new):
  tokens = generation.generate(
    assembly.build(spec),
    {"params": jax.tree.map(jnp.asarray, params)},
    jnp.array([[1]], jnp.int32),
    max_new_tokens=new,
    key=jax.random.key(0),
  )
  return np.asarray(tokens)[0].tolist()


def test_greedy_story_is_the_published_one(story):
  spec, params, expected = story
  ids = expected["greedy_ids_from_bos"]
  assert greedy(spec, params, len(ids) - 1) == ids[1:]


def test_it_tells_the_same_story_after_export(story, tmp_path):
  spec, params, expected = story
  facts = interop.export_folder(tmp_path / "out", model=spec, params=params)
  assert facts["parameters"] == 260_032
  assert facts["largest_difference"] < 1e-4
  found = interop.import_folder(tmp_path / "out")
  ids = expected["greedy_ids_from_bos"][1:31]
  assert greedy(found.model, found.params, 30) == ids
