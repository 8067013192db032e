"""The stack parts; one a module, found by the registry."""

from jaxlm.registry import Registry

stacks = Registry("stack", __name__)
