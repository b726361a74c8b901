"""Learning-rate schedules: functions of the epoch, as factors on the learning rate it started with.

An epoch is counted in fractions, so that a schedule may change inside one.
"""

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

    >>> [steps([10, 20])(epoch) for epoch in (0, 9.9)], round(steps([10, 20])(20), 6)
    ([1.0, 1.0], 0.01)
    """
    if list(at) != sorted(at):
        raise ConfigError(f"the epochs at which the learning rate steps must rise, got {list(at)}.")
    milestones = list(at)
    return lambda epoch: float(gamma ** bisect_right(milestones, epoch))
