"""The block parts; one a module, found by the registry."""

from jaxlm.registry import Registry

blocks = Registry("block", __name__)
