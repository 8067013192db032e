"""Models: assembly of layers, no mathematics of their own."""

from jaxlm.registry import Registry

models = Registry("model", __name__)
