# Copyright 2026 the jaxlm authors. Licensed under the Apache License 2.0.
"""The layers of a jaxlm model in plain PyTorch; see modeling_jaxlm.py."""

import math

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {
  "gelu": F.gelu,
  "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
  "relu": F.relu,
  "silu": F.silu,
  "tanh": torch.tanh,
}


class RMSNorm(nn.Module):
  """Unit root mean square."""

  def __init__(self, width, eps):
    super().__init__()
    self.weight = nn.Parameter(torch.ones(width))
    self.eps = eps

  def forward(self, x):
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
    return (wide * scale).to(x.dtype) * self.weight


def make_norm(spec, width):
  """The norm of a description."""
  if spec["kind"] == "rms_norm":
    return RMSNorm(width, spec["epsilon"])
  return nn.LayerNorm(width, eps=spec["epsilon"], bias=spec["use_bias"])


def sinusoids(positions, features, theta):
  """[batch, length] -> [batch, length, features]: sines, then cosines."""
  rates = theta ** (
    -torch.arange(0, features, 2, device=positions.device).double() / features
  )
  angles = positions[..., None].float() * rates.float()
  return torch.cat([angles.sin(), angles.cos()], -1)


def turned(x, positions, theta):
  """Rotary positions on x [batch, heads, length, head_dim], half-split."""
  dtype = torch.promote_types(x.dtype, torch.float32)
  width = x.shape[-1]
  rates = theta ** (
    -torch.arange(0, width, 2, device=x.device).double() / width
  )
  angles = positions[:, None, :, None].to(dtype) * rates.to(dtype)
  cos, sin = angles.cos(), angles.sin()
  first, second = x.to(dtype).chunk(2, -1)
  return torch.cat(
    [first * cos - second * sin, second * cos + first * sin], -1
  ).to(x.dtype)


def alibi_slopes(heads):
  """The slopes of Press et al., arXiv:2108.12409."""

  def powers(n):
    return [2.0 ** (-8.0 * (k + 1) / n) for k in range(n)]

  lower = 2 ** math.floor(math.log2(heads))
  return powers(lower) + powers(2 * lower)[0::2][: heads - lower]


def relative_bucket(distance, buckets, max_distance, bidirectional):
  """T5's bucket of a distance key - query."""
  offset = torch.zeros_like(distance)
  if bidirectional:
    buckets //= 2
    offset = (distance > 0).long() * buckets
    distance = distance.abs()
  else:
    distance = (-distance).clamp(min=0)
  exact = buckets // 2
  ratio = torch.log(distance.clamp(min=1).float() / exact)
  ratio = ratio / math.log(max_distance / exact) * (buckets - exact)
  large = (exact + ratio.long()).clamp(max=buckets - 1)
  return offset + torch.where(distance < exact, distance, large)


class Embeddings(nn.Module):
  """Token table and sentence types."""

  def __init__(self, model):
    super().__init__()
    spec, width = model["embeddings"], model["width"]
    self.features = spec.get("table_width", width)
    self.table = nn.Parameter(torch.empty(model["vocab_size"], self.features))
    self.type_table = None
    if spec["types"]:
      self.type_table = nn.Parameter(torch.empty(spec["types"], self.features))
    self.projection = None
    if spec["kind"] == "factorized":
      self.projection = nn.Linear(self.features, width)

  def lookup(self, tokens, types):
    x = F.embedding(tokens, self.table)
    if self.type_table is None:
      return x
    types = torch.zeros_like(tokens) if types is None else types
    return x + F.embedding(types, self.type_table)

  def project(self, x):
    return x if self.projection is None else self.projection(x)


class Positions(nn.Module):
  """What tells order, at the input or on the scores."""

  def __init__(self, spec, features):
    super().__init__()
    self.spec = spec
    self.table = None
    if spec["kind"] == "learned":
      rows = spec["max_length"] + spec["offset"]
      self.table = nn.Parameter(torch.empty(rows, features))
    if spec["kind"] == "relative_buckets":
      self.table = nn.Parameter(torch.empty(spec["buckets"], spec["heads"]))

  def at_input(self, x, positions):
    if self.spec["kind"] == "learned":
      return x + F.embedding(positions + self.spec["offset"], self.table)
    if self.spec["kind"] == "sinusoidal":
      angles = sinusoids(positions, x.shape[-1], self.spec["theta"])
      return x + angles.to(x.dtype)
    return x

  def bias(self, length, device):
    """[1, heads, length, length] added to the scores, or None."""
    index = torch.arange(length, device=device)
    distance = index[None, :] - index[:, None]
    if self.spec["kind"] == "alibi":
      slopes = torch.tensor(alibi_slopes(self.spec["heads"]), device=device)
      return -slopes[None, :, None, None].float() * distance.abs()[None, None]
    if self.spec["kind"] == "relative_buckets":
      bucket = relative_bucket(
        distance,
        self.spec["buckets"],
        self.spec["max_distance"],
        self.spec["bidirectional"],
      )
      return F.embedding(bucket, self.table).permute(2, 0, 1)[None]
    return None


class Attention(nn.Module):
  """Softmax attention over the keys that a query may see."""

  def __init__(self, spec, width):
    super().__init__()
    self.spec = spec
    self.heads = spec["heads"]
    self.key_heads = spec["key_heads"] or self.heads
    self.dim = spec["head_dim"] or width // self.heads
    bias = spec["use_bias"]
    self.query = nn.Linear(width, self.heads * self.dim, bias)
    self.key = nn.Linear(width, self.key_heads * self.dim, bias)
    self.value = nn.Linear(width, self.key_heads * self.dim, bias)
    self.output = nn.Linear(self.heads * self.dim, width, bias)

  def forward(self, x, positions, mask, bias):
    def split(y, heads):
      return y.view(*x.shape[:2], heads, self.dim).transpose(1, 2)

    query = split(self.query(x), self.heads)
    key = split(self.key(x), self.key_heads)
    value = split(self.value(x), self.key_heads)
    rotary = self.spec["positions"]
    if rotary and rotary["kind"] == "rotary":
      query = turned(query, positions, rotary["theta"])
      key = turned(key, positions, rotary["theta"])
    key = key.repeat_interleave(self.heads // self.key_heads, 1)
    value = value.repeat_interleave(self.heads // self.key_heads, 1)
    wide = torch.promote_types(x.dtype, torch.float32)
    scores = (query @ key.transpose(2, 3)).to(wide) / math.sqrt(self.dim)
    if bias is not None:
      scores = scores + bias.to(wide)
    seen = mask[:, None, None, :] & self._near(x.shape[1], x.device)
    scores = scores.masked_fill(~seen, torch.finfo(wide).min)
    weights = scores.softmax(-1).to(x.dtype)
    weights = F.dropout(weights, self.spec["dropout"], self.training)
    out = (weights @ value).transpose(1, 2).reshape(*x.shape[:2], -1)
    return self.output(out)

  def _near(self, length, device):
    index = torch.arange(length, device=device)
    distance = index[None, :] - index[:, None]
    causal, window = self.spec["causal"], self.spec["window"]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if causal:
      seen = distance <= 0
    if window and causal:
      seen = seen & (distance > -window)
    elif window:
      seen = distance.abs() <= window // 2
    return seen[None, None]


class FeedForward(nn.Module):
  """Two maps with an activation between them, or the gated three."""

  def __init__(self, spec, width):
    super().__init__()
    self.activation = ACTIVATIONS[spec["activation"]]
    self.gated = spec["kind"] == "gated"
    hidden = spec["hidden"]
    if self.gated:
      self.gate = nn.Linear(width, hidden, spec["input_bias"])
      self.up = nn.Linear(width, hidden, spec["input_bias"])
      self.output = nn.Linear(hidden, width, spec["output_bias"])
    else:
      self.input = nn.Linear(width, hidden, spec["use_bias"])
      self.output = nn.Linear(hidden, width, spec["use_bias"])
    self.drop = nn.Dropout(spec.get("dropout", 0.0))

  def forward(self, x):
    if self.gated:
      return self.output(self.drop(self.activation(self.gate(x)) * self.up(x)))
    return self.output(self.activation(self.input(x)))


class Layer(nn.Module):
  """A pre-norm or post-norm residual block."""

  def __init__(self, spec, model):
    super().__init__()
    width, block = model["width"], spec["block"]
    self.mixer = Attention(spec["mixer"], width)
    self.feedforward = FeedForward(spec["feedforward"], width)
    self.pre = block["kind"] == "pre_norm"
    self.mixer_norm = None
    if not block.get("skip_mixer_norm", False):
      self.mixer_norm = make_norm(model["norm"], width)
    self.feedforward_norm = make_norm(model["norm"], width)
    rate = block["feedforward_dropout"]
    self.drop = nn.Dropout(block["dropout"])
    self.feedforward_drop = nn.Dropout(
      block["dropout"] if rate is None else rate
    )

  def forward(self, x, *context):
    if self.pre:
      h = x if self.mixer_norm is None else self.mixer_norm(x)
      x = x + self.drop(self.mixer(h, *context))
      h = self.feedforward(self.feedforward_norm(x))
      return x + self.feedforward_drop(h)
    x = self.mixer_norm(x + self.drop(self.mixer(x, *context)))
    h = self.feedforward_drop(self.feedforward(x))
    return self.feedforward_norm(x + h)
