"""Weights and tokens by a formula, so that goldens hold only results."""

import zlib

import numpy as np


def weight(name: str, shape, *, std: float = 0.3) -> np.ndarray:
  """float64 values with this deviation, the same on every machine.

  An integer hash of the place and of the tensor's name: no library's random
  numbers, no rounding.
  """
  place = np.arange(int(np.prod(shape)), dtype=np.uint64)
  mixed = place * np.uint64(0x9E3779B97F4A7C15)
  salt = zlib.crc32(name.encode()) * 0xBF58476D1CE4E5B9 % 2**64
  mixed ^= np.uint64(salt)
  mixed ^= mixed >> np.uint64(30)
  mixed *= np.uint64(0x94D049BB133111EB)
  mixed ^= mixed >> np.uint64(31)
  uniform = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53 - 0.5
  return (std * np.sqrt(12.0) * uniform).reshape(shape)


def tokens(vocab_size: int, rows: int, length: int, low: int = 2) -> np.ndarray:
  """int32 [rows, length] in [low, vocab_size)."""
  draw = weight(f"tokens of {vocab_size}", (rows, length), std=1 / 12**0.5)
  return (low + (draw + 0.5) * (vocab_size - low)).astype(np.int32)
