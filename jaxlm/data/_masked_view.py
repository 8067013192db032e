"""A corruption of the registry over rows that are in memory."""

import numpy as np

from jaxlm.data import order
from jaxlm.data._tensorflow import tf
from jaxlm.data.corruption import _threefry


def masked_view(corruption, tokenizer, length: int):
  """(batch, seed, rows, epochs) -> what a masked LM reads and predicts.

  `inputs` of the corruption come back as `corrupted_inputs`. Numbers of a row
  depend on (seed, row, epoch) alone.
  """
  apply = corruption.bind(tokenizer, length)
  wanted = ("inputs", "predict_positions", "predict_ids", "predict_weights")
  row, number = tf.TensorSpec([None, length], tf.int32), tf.int64

  @tf.function(
    autograph=False,
    input_signature=[
      row,
      row,
      tf.TensorSpec([], number),
      tf.TensorSpec([None], number),
      tf.TensorSpec([None], number),
    ],
  )
  def corrupt(tokens, segments, seed, rows, epochs):
    texts = {"tokens": tokens, "segments": segments}
    made = apply(texts, _threefry.row_keys(seed, rows, epochs))
    return {key: made[key] for key in wanted}

  def masked(batch, seed, rows, epochs):
    numbers = (np.asarray(rows, np.int64), np.asarray(epochs, np.int64))
    seed = np.int64(order.signed(seed))
    made = corrupt(batch["inputs"], batch["segments"], seed, *numbers)
    made = {key: value.numpy() for key, value in made.items()}
    return {"corrupted_inputs": made.pop("inputs"), **made}

  return masked
