"""What `prepare` of every data set hands to training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxlm.types import Task

if TYPE_CHECKING:
  from jaxlm.data.tokenizer import Tokenizer


class Prepared(NamedTuple):
  """Data that is ready to train on.

  Attributes:
    tokenizer: a `jaxlm.data.tokenizer.Tokenizer`, no TensorFlow inside.
    train: the Task of training batches.
    validation: the Task of held-out batches, or None where there are none.
    facts: hashes, counts, `vocab_size` and, for labelled data, `classes`.
  """

  tokenizer: "Tokenizer"
  train: Task
  validation: Task | None
  facts: Mapping[str, Any]
