"""Orders: which rows of the cache the batch of a training step holds.

An order is a frozen dataclass with

  rows_of_step(seed, step, batch_size, rows) -> (indices, epochs)

int64 [batch_size] each: the row of each place of the batch, and the visit.
It is a function of its arguments alone, so a restart lands on the same rows,
and all shards agree. An order that is an endless stream of rows also has

  rows_of_entries(seed, numbers, rows) -> (indices, epochs)

of places in the stream, so that a mixture can take any of them.
"""

from jaxlm.registry import Registry

orders = Registry("order", __name__)
