"""A model, an objective and data that follow the contracts and are tiny."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.types import Outcome, Task

VOCAB, LENGTH, WIDTH = 17, 6, 8


class ToyModel(nn.Module):
  """A bag of words around each token guesses the token."""

  dropout: float = 0.0
  width: int = WIDTH

  @nn.compact
  def __call__(self, batch, *, train, capture=frozenset()):
    named = nn.with_logical_partitioning
    normal = nn.initializers.normal(0.5)
    table = self.param(
      "table", named(normal, ("vocab", "embed")), (VOCAB, self.width)
    )
    x = table[batch["inputs"]]
    real = (batch["segments"] > 0)[..., None]
    x = x + jnp.sum(x * real, axis=1, keepdims=True) / LENGTH
    x = nn.Dense(
      2 * self.width,
      kernel_init=named(normal, ("embed", "mlp")),
      bias_init=named(nn.initializers.zeros, ("mlp",)),
      name="wide",
    )(x)
    x = nn.Dropout(self.dropout)(jnp.tanh(x), deterministic=not train)
    logits = nn.Dense(
      VOCAB,
      use_bias=False,
      kernel_init=named(normal, ("mlp", "vocab")),
      name="out",
    )(x)
    return {"hidden": x, "toy": logits}


@dataclasses.dataclass(frozen=True)
class ToyObjective:
  """Cross-entropy of weighted tokens, and a small second term."""

  coefficients = {"size": 0.01}

  def weights(self, batch):
    return {
      "token": jnp.sum(batch["weights"]),
      "size": jnp.float32(batch["inputs"].shape[0]),
    }

  def __call__(self, model, variables, batch, key, *, train):
    rngs = {"dropout": key} if train else {}
    logits = model.apply(variables, batch, train=train, rngs=rngs)["toy"]
    loss = -jnp.take_along_axis(
      jax.nn.log_softmax(logits), batch["targets"][..., None], axis=-1
    )[..., 0]
    right = (jnp.argmax(logits, -1) == batch["targets"]) * batch["weights"]
    sums = {
      "token": jnp.sum(loss * batch["weights"]),
      "size": jnp.sum(jnp.mean(logits**2, axis=(1, 2))),
    }
    if "poison" in batch:
      sums["token"] = sums["token"] + jnp.sum(batch["poison"])
    return Outcome(
      sums, {"accuracy": (jnp.sum(right), jnp.sum(batch["weights"]))}
    )


def task(batch_size=16, rows=96, poison_step=None, name="toy") -> Task:
  """Rows of ragged lengths; a token's target is the token after it."""
  source = np.random.Generator(np.random.Philox(7))
  inputs = source.integers(1, VOCAB, (rows, LENGTH)).astype(np.int32)
  lengths = source.integers(2, LENGTH + 1, rows)
  real = (np.arange(LENGTH) < lengths[:, None]).astype(np.int32)
  inputs = inputs * real

  def batch_at(seed, step, shard=(0, 1)):
    index, count = shard
    size = batch_size // count
    entries = np.arange(batch_size) + step * batch_size
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(rows)
    chosen = order[entries % rows][index * size : (index + 1) * size]
    batch = {
      "inputs": inputs[chosen],
      "segments": real[chosen],
      "targets": (inputs[chosen] * 3 % VOCAB).astype(np.int32),
      "weights": real[chosen].astype(np.float32),
    }
    if poison_step is not None:
      bad = np.nan if step == poison_step else 0.0
      batch["poison"] = np.full((size,), bad, np.float32)
    return batch

  spec = {
    key: jax.ShapeDtypeStruct((batch_size, *value.shape[1:]), value.dtype)
    for key, value in batch_at(0, 0).items()
  }
  return Task(name, spec, batch_at, rows)
