"""Whether one pair is better than another, or was lucky."""

import math
import statistics
from collections.abc import Sequence

from thruway.errors import ConfigError

__all__ = ["SIGNIFICANT", "mcnemar", "paired_t"]

SIGNIFICANT = 0.005
"""The level at which the paper prints a number in bold."""


def mcnemar(only_first: int, only_second: int) -> float:
    """How likely two equally good nets disagree so unevenly on one test set: the exact two-sided p-value.

    Where both are right, or both wrong, an example says nothing. Of the others each net has half, if they are alike:
    a binomial of `only_first + only_second` throws.

    Args:
        only_first: test examples that only the first net gets right.
        only_second: those that only the second gets right.
    Raises:
        ConfigError: for a negative count.
    Source:
        McNemar 1947; exact as in Dietterich 1998, sec. 3.1.

    >>> mcnemar(5, 5), mcnemar(10, 0) == 2 / 2**10
    (1.0, True)
    """
    if only_first < 0 or only_second < 0:
        raise ConfigError(f"counts of test examples are 0 or more, got {only_first} and {only_second}.")
    throws, fewer = only_first + only_second, min(only_first, only_second)
    # Summed as integers: at ten thousand throws the terms leave the range of a float.
    tail, term = 0, 1
    for heads in range(fewer + 1):
        tail += term
        term = term * (throws - heads) // (heads + 1)
    return min(1.0, _ratio(2 * tail, throws))


def paired_t(first: Sequence[float], second: Sequence[float]) -> float:
    """How likely equal means are, from the differences of two rows of numbers: the two-sided p-value of Student's t.

    Args:
        first, second: one number per seed, in the same order.
    Returns:
        p; NaN with fewer than two seeds, or where all differences are 0.
    Raises:
        ConfigError: if the rows differ in length.
    Source:
        Student 1908; the distribution in closed form as in Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.

    >>> round(paired_t([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), 4)
    0.0742
    """
    if len(first) != len(second):
        raise ConfigError(f"pairs need one number each, got {len(first)} and {len(second)}.")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if len(differences) < 2 or any(math.isnan(d) for d in differences) or not any(differences):
        return math.nan
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    t = math.inf if error == 0 else abs(statistics.fmean(differences)) / error
    return _beyond(t, len(differences) - 1)


def _beyond(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's distribution: with t = sqrt(freedom) tan(angle), an integral of powers of the cosine."""
    angle = math.atan(t / math.sqrt(freedom))
    # Integral of cos^m from 0 to angle and to pi/2, m = freedom - 1, by the recursion from m - 2.
    part, whole = (angle, math.pi / 2) if freedom % 2 == 1 else (math.sin(angle), 1.0)
    for power in range(2 if freedom % 2 == 1 else 3, freedom, 2):
        part = (math.cos(angle) ** (power - 1) * math.sin(angle) + (power - 1) * part) / power
        whole = (power - 1) * whole / power
    return min(1.0, max(0.0, 1.0 - part / whole))


def _ratio(numerator: int, throws: int) -> float:
    """numerator / 2^throws, where neither need fit a float."""
    excess = max(0, numerator.bit_length() - 64)
    return math.ldexp(float(numerator >> excess), excess - throws)
