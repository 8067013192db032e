"""The feedforward parts; one a module, found by the registry."""

from jaxlm.registry import Registry

feedforwards = Registry("feedforward", __name__)
