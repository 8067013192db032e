"""The norm parts; one a module, found by the registry."""

from jaxlm.registry import Registry

norms = Registry("norm", __name__)
