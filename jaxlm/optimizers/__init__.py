"""Optimizers: optax transformations, one method a file.

A part is `kind(learning_rate, ...) -> optax.GradientTransformationExtraArgs`,
where `learning_rate` is a schedule or a number. It reads the schedule through
`_parts.scale_by_schedule`, so that runs with a time budget can tell it where
they are, and ignores extra arguments that it does not know.
"""

from jaxlm.registry import Registry

optimizers = Registry("optimizer", __name__)
