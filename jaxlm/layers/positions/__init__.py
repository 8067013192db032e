"""The position parts; one a module, found by the registry."""

from jaxlm.registry import Registry

positions = Registry("position", __name__)
