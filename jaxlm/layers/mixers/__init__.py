"""The mixer parts; one a module, found by the registry."""

from jaxlm.registry import Registry

mixers = Registry("mixer", __name__)
