"""Learning rates over a run: functions of the step, found by the registry.

A part is `kind(learning_rate, steps, ...) -> schedule`, where `schedule(step)`
gives a float32 learning rate for an int or float step, traced or not: an
optax schedule. `learning_rate` is the peak and `steps` the run's length.
"""

from jaxlm.registry import Registry

schedules = Registry("schedule", __name__)
