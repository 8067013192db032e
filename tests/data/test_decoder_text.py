"""Batches for encoder-decoders as text."""

import numpy as np

from jaxlm.data.prepared import describe
from tests.data import fakes


class Tokenizer(fakes.SentinelTokenizer):
  """Spells sentinels by their names."""

  def id_to_token(self, index):
    place = self.first_sentinel - int(index)
    sentinel = place < self.sentinels
    return f"<extra_id_{place}>" if sentinel else super().id_to_token(index)


def test_spans_and_targets():
  batch = {
    "inputs": np.array([[7, 79, 8, 78, 3, 0], [9, 3, 0, 0, 0, 0]]),
    "segments": np.array([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
    "decoder_inputs": np.array([[0, 79, 10, 11, 78, 12, 3, 0], [0] * 8]),
    "decoder_segments": np.array([[1] * 7 + [0], [1] + [0] * 7]),
    "targets": np.array([[79, 10, 11, 78, 12, 3, 0, 0], [3] + [0] * 7]),
    "weights": np.array([[1.0] * 6 + [0] * 2, [1.0] + [0] * 7]),
  }
  assert describe(batch, Tokenizer()).split("\n") == [
    "row 0: 1 segments, 5 tokens",
    "  1 | 7 79 8 78 3",
    "    say | 79 10 11 78 12 3",
    "    hidden <extra_id_0>: '10 11', <extra_id_1>: '12 3'",
    "row 1: 1 segments, 2 tokens",
    "  1 | 9 3",
    "    say | 3",
    "7 tokens, 41.67% padding",
    "7 target tokens, 1.00 a token of the inputs, 56.25% padding",
  ]


def test_noise_of_the_second_view():
  batch = {
    "inputs": np.array([[2, 7, 4, 8, 9, 3]]),
    "corrupted_inputs": np.array([[2, 7, 4, 9, 11, 3]]),
    "tags": np.array([[0, 0, 0, 1, 2, 0]]),
    "tag_weights": np.ones((1, 6)),
    "segments": np.ones((1, 6), np.int32),
    "decoder_inputs": np.array([[3, 2, 7, 8]]),
    "decoder_segments": np.ones((1, 4), np.int32),
    "targets": np.array([[2, 7, 8, 3]]),
    "weights": np.ones((1, 4)),
  }
  assert describe(batch, fakes.NumberTokenizer()).split("\n") == [
    "row 0: 1 segments, 6 tokens",
    "  1 | 2 7 4 8 9 3",
    "    say | 2 7 8 3",
    "    second view | 2 7 4 9 11 3",
    "    noise 3: 8 -> 9 shuffled, 4: 9 -> 11 replaced",
    "6 tokens, 0.00% padding",
    "4 target tokens, 0.67 a token of the inputs, 0.00% padding",
    "tokens of the second view: kept 66.7%, shuffled 16.7%, replaced 16.7%",
  ]
