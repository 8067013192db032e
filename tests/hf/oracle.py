"""Tiny random models of transformers, and both sides' outputs."""

import jax
import numpy as np
import torch
from transformers.models.modernbert import modeling_modernbert as modern

from jaxlm import interop
from jaxlm.models import assembly

ROWS, LENGTH, PAD = 3, 12, 1
# Right-padded, full, left-padded.
MASK = np.ones((ROWS, LENGTH), np.int32)
MASK[0, 8:] = 0
MASK[2, :5] = 0


def draw(model, *, std=0.3, seed=0, dtype=torch.float64):
  """Every parameter N(0, std): defaults are too narrow to show bugs."""
  generator = torch.Generator().manual_seed(seed)
  model = model.to(dtype).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      noise = torch.randn(
        parameter.shape, generator=generator, dtype=torch.float64
      )
      parameter.copy_(std * noise)
  return model


def exact_modernbert(setattr):
  """Angles and turns of ModernBERT in float64, which transformers rounds."""

  def forward(self, x, position_ids, layer_type):
    theta = self.config.rope_parameters[layer_type]["rope_theta"]
    dim = self.config.hidden_size // self.config.num_attention_heads
    rates = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = position_ids[..., None].double() * rates
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()

  def turn(q, k, cos, sin, unsqueeze_dim=1):
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return tuple(x * cos + modern.rotate_half(x) * sin for x in (q, k))

  setattr(modern.ModernBertRotaryEmbedding, "forward", forward)
  setattr(modern, "apply_rotary_pos_emb", turn)


def batch(vocab_size, *, left=True, types=True):
  """Random tokens; the rows of MASK, or without the left-padded one."""
  random = np.random.default_rng(0)
  mask = MASK if left else MASK[:2]
  tokens = random.integers(PAD + 1, vocab_size, MASK.shape)[: len(mask)]
  made = {
    "inputs": np.where(mask, tokens, PAD).astype(np.int32),
    "segments": mask,
    "positions": np.maximum(np.cumsum(mask, 1) - 1, 0).astype(np.int32),
  }
  if types:
    kinds = random.integers(0, 2, mask.shape)
    made["types"] = np.where(mask, kinds, 0).astype(np.int32)
  return made


def theirs(model, batch, *, positions=False, **more):
  """What a model of transformers returns."""
  inputs = {
    "input_ids": torch.tensor(batch["inputs"]).long(),
    "attention_mask": torch.tensor(batch["segments"]).long(),
  }
  if "types" in batch:
    inputs["token_type_ids"] = torch.tensor(batch["types"]).long()
  if positions:
    inputs["position_ids"] = torch.tensor(batch["positions"]).long()
  with torch.no_grad():
    return model(**inputs, **more)


def ours(imported, batch, *, dtype=np.float64):
  """What jaxlm returns for an imported folder."""
  return run(imported.model, imported.params, batch, dtype=dtype)


def run(spec, params, batch, *, dtype=np.float64, **given):
  """What jaxlm returns for a spec and its parameters."""
  with jax.enable_x64(dtype == np.float64):
    model = assembly.build(spec, dtype=dtype, param_dtype=dtype, **given)
    made = jax.jit(model.apply)({"params": params}, batch)
    return {k: np.asarray(v) for k, v in made.items()}


def imported(model, folder, *, dtype=np.float64):
  """A model of transformers, through its own file and our import."""
  model.save_pretrained(folder)
  return interop.import_folder(folder, dtype=dtype)


def random_params(spec, *, std=0.3, seed=0, **given):
  """Parameters of a spec, N(0, std), float64, as the spec arranges them."""
  import flax.linen as nn

  model = assembly.build(spec, **given)
  tree = jax.eval_shape(
    lambda key: nn.meta.unbox(
      model.init(key, {"inputs": np.ones((1, 4), np.int32)})["params"]
    ),
    jax.random.key(0),
  )
  random = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: random.normal(0, std, leaf.shape), tree)


def close(first, second, limit, mask=None):
  """Asserts the largest difference, on real rows where a mask is given."""
  first, second = np.asarray(first), np.asarray(second)
  assert first.shape == second.shape, (first.shape, second.shape)
  if mask is not None:
    first, second = first[mask > 0], second[mask > 0]
  assert np.isfinite(first).all()
  assert np.ptp(first) > 0.1  # it says something at all
  worst = np.max(np.abs(first - second))
  assert worst <= limit, f"largest difference {worst:.3g}, allowed {limit:.3g}"
