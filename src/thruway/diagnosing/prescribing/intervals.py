"""Student's interval of the mean of a few paired differences."""

import math
import statistics
from collections.abc import Sequence

__all__ = ["CONFIDENCE", "paired_interval"]

CONFIDENCE = 0.9


def paired_interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of the mean difference by Student's t distribution.

    Args:
        differences: one number per pair. With fewer than two, the interval is infinite.
        confidence: probability that the interval covers the mean of normally distributed differences.
    Source:
        Student 1908; the distribution in closed form as in Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.

    >>> low, high = paired_interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)    # 2 -+ 2.92 / sqrt(3)
    (0.314, 3.686)
    """
    if len(differences) < 2:
        return -math.inf, math.inf
    mean = statistics.fmean(differences)
    width = _quantile(confidence, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean - width, mean + width


def _quantile(confidence: float, freedom: int) -> float:
    """Return t with P(|T| <= t) = confidence, by bisection over the angle with t = sqrt(freedom) tan(angle)."""
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Return P(|T| <= sqrt(freedom) tan(angle)): a share of the integral of cos^(freedom - 1) from 0 to pi/2."""
    is_odd = freedom % 2 == 1
    part, whole = (angle, math.pi / 2) if is_odd else (math.sin(angle), 1.0)
    for power in range(2 if is_odd else 3, freedom, 2):
        part = (math.cos(angle) ** (power - 1) * math.sin(angle) + (power - 1) * part) / power
        whole = (power - 1) * whole / power
    return part / whole
