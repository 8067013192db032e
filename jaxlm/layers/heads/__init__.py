"""The head parts; one a module, found by the registry."""

from jaxlm.registry import Registry

heads = Registry("head", __name__)
