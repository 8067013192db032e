"""jaxlm: cheaper pre-training of language models, as parts that compose."""

__version__ = "0.1.0"
