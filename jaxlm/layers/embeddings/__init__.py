"""The embedding parts; one a module, found by the registry."""

from jaxlm.registry import Registry

embeddings = Registry("embedding", __name__)
