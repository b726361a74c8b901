"""Learning-rate schedules: functions from the epoch to the factor by which the initial learning rate is multiplied.

A schedule is defined for any epoch of at least 0, including fractions. `train` calls it once, at the start of each
epoch; a custom loop can also call it within an epoch.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from thruway.errors import ConfigError

__all__ = ["Schedule", "constant", "exponential", "steps"]

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """Constant learning rate: always 1."""
    return lambda epoch: 1.0


def exponential(gamma: float) -> Schedule:
    """Exponential decay: gamma ** epoch.

    Args:
        gamma: decay factor per epoch, in (0, 1].
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1 (exponentially decaying rate).

    >>> exponential(0.5)(2)
    0.25
    """
    if not 0 < gamma <= 1:
        raise ConfigError(f"gamma, the decay factor per epoch, must be in (0, 1], got {gamma!r}.")
    return lambda epoch: gamma**epoch


def steps(at: Sequence[float], gamma: float = 0.1) -> Schedule:
    """Step decay: multiply the learning rate by gamma at each of the given epochs.

    Args:
        at: epochs, in increasing order.
        gamma: factor at each of them, above 0.
    Raises:
        ConfigError: if the epochs are not increasing, or `gamma` is not finite and above 0.

    >>> [steps([10, 20])(epoch) for epoch in (0, 9.9)], round(steps([10, 20])(20), 6)
    ([1.0, 1.0], 0.01)
    """
    if list(at) != sorted(at):
        raise ConfigError(f"the epochs at which the learning rate steps must be increasing, got {list(at)}.")
    if not (gamma > 0 and math.isfinite(gamma)):
        raise ConfigError(f"gamma must be a finite number above 0, got {gamma!r}.")
    milestones = list(at)
    return lambda epoch: float(gamma ** bisect_right(milestones, epoch))
