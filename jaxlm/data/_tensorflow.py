"""TensorFlow, quiet and on the CPU only; the one place that imports it.

Data preparation needs no accelerator, and TensorFlow would take the memory of
all that it sees from JAX.
"""

import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@contextlib.contextmanager
def silent():
  """Sends file descriptor 2 nowhere for a while.

  The C++ half greets with lines about CUDA before its log level counts; what
  goes wrong comes as a Python exception all the same.
  """
  kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  os.dup2(nowhere, 2)
  try:
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


with silent():
  import tensorflow as tf

  tf.config.set_visible_devices([], "GPU")
  tf.zeros(())  # looks for devices, and greets again

__all__ = ["silent", "tf"]
