"""Objectives: what is minimised, one method a file.

Each is a frozen dataclass with the contract of docs/design.md: `weights`
gives the denominators of its terms, a function of data alone, and a call
gives their sums.
"""

from jaxlm.registry import Registry

objectives = Registry("objective", __name__)
