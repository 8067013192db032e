"""TensorFlow, quiet and on the CPU only; the one place that imports it.

Data preparation needs no accelerator, and TensorFlow would take the memory of
all that it sees from JAX.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf  # noqa: E402

tf.config.set_visible_devices([], "GPU")

__all__ = ["tf"]
