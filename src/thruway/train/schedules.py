"""Learning-rate schedules: functions of the epoch, as factors on the learning rate it started with.

A schedule answers for any epoch at or above 0, fractions included. `train` asks it once, as each epoch
begins; whoever steps a net by hand may ask it inside one.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from thruway.errors import ConfigError

__all__ = ["Schedule", "constant", "exponential", "steps"]

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """1 for ever."""
    return lambda epoch: 1.0


def exponential(gamma: float) -> Schedule:
    """gamma ** epoch.

    Args:
        gamma: what is left of the learning rate after each epoch, in (0, 1].
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1 (exponentially decaying rate).

    >>> exponential(0.5)(2)
    0.25
    """
    if not 0 < gamma <= 1:
        raise ConfigError(
            f"exponential decay must keep a share in (0, 1] of the learning rate per epoch, got {gamma!r}."
        )
    return lambda epoch: gamma**epoch


def steps(at: Sequence[float], gamma: float = 0.1) -> Schedule:
    """gamma to the number of epochs in `at` that have passed.

    Args:
        at: epochs, rising.
        gamma: the factor at each of them, above 0.
    Raises:
        ConfigError: for epochs that fall, or a gamma that is not a finite number above 0.

    >>> [steps([10, 20])(epoch) for epoch in (0, 9.9)], round(steps([10, 20])(20), 6)
    ([1.0, 1.0], 0.01)
    """
    if list(at) != sorted(at):
        raise ConfigError(f"the epochs at which the learning rate steps must rise, got {list(at)}.")
    if not (gamma > 0 and math.isfinite(gamma)):
        raise ConfigError(f"gamma must be a finite number above 0, got {gamma!r}.")
    milestones = list(at)
    return lambda epoch: float(gamma ** bisect_right(milestones, epoch))
