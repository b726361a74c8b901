"""Significance tests for the difference between two classifiers: McNemar's test and Student's paired t-test."""

import math
import statistics
from collections.abc import Sequence

from thruway.errors import ConfigError

__all__ = ["mcnemar", "paired_t"]


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test that two classifiers have equal error.

    Only test examples on which the two differ are used. Under the null hypothesis each classifier is right on half of
    them, which is a binomial distribution of `only_first + only_second` trials.

    Args:
        only_first: number of test examples that only the first classifies correctly.
        only_second: number of test examples that only the second classifies correctly.
    Raises:
        ConfigError: for a negative count.
    Source:
        McNemar 1947; exact as in Dietterich 1998, sec. 3.1.

    >>> mcnemar(5, 5), mcnemar(10, 0) == 2 / 2**10
    (1.0, True)
    """
    if only_first < 0 or only_second < 0:
        raise ConfigError(f"counts of test examples must be at least 0, got {only_first} and {only_second}.")
    throws, fewer = only_first + only_second, min(only_first, only_second)
    # Summed as integers: at ten thousand throws the terms exceed the range of a float.
    tail, term = 0, 1
    for heads in range(fewer + 1):
        tail += term
        term = term * (throws - heads) // (heads + 1)
    return min(1.0, _ratio(2 * tail, throws))


def paired_t(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's paired t-test that two sequences have equal means.

    Args:
        first, second: one number per pair, in the same order.
    Returns:
        The p-value; NaN if there are fewer than two pairs, or all differences are 0.
    Raises:
        ConfigError: if the lengths differ.
    Source:
        Student 1908; the distribution in closed form as in Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.

    >>> round(paired_t([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]), 4)
    0.0742
    """
    if len(first) != len(second):
        raise ConfigError(f"both sequences must have the same length, got {len(first)} and {len(second)}.")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if len(differences) < 2 or any(math.isnan(d) for d in differences) or not any(differences):
        return math.nan
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    t = math.inf if error == 0 else abs(statistics.fmean(differences)) / error
    return _tail(t, len(differences) - 1)


def _tail(t: float, freedom: int) -> float:
    """Return P(|T| > t) of Student's distribution, for t = sqrt(freedom) tan(angle), an integral of a cosine power."""
    angle = math.atan(t / math.sqrt(freedom))
    # Integral of cos^m from 0 to angle and to pi/2, m = freedom - 1, by the recursion from m - 2.
    part, whole = (angle, math.pi / 2) if freedom % 2 == 1 else (math.sin(angle), 1.0)
    for power in range(2 if freedom % 2 == 1 else 3, freedom, 2):
        part = (math.cos(angle) ** (power - 1) * math.sin(angle) + (power - 1) * part) / power
        whole = (power - 1) * whole / power
    return min(1.0, max(0.0, 1.0 - part / whole))


def _ratio(numerator: int, throws: int) -> float:
    """Return numerator / 2^throws, both of which may exceed the range of a float."""
    excess = max(0, numerator.bit_length() - 64)
    return math.ldexp(float(numerator >> excess), excess - throws)
