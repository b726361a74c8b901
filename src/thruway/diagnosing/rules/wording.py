"""Wording of numbers and lists in the sentences of findings."""

import math
from collections.abc import Sequence

__all__ = ["join_names", "number", "percent", "power_of_ten"]


def number(value: float) -> str:
    """Format a number with two significant digits.

    >>> number(0.01234), number(1234.0), number(99.9), number(float("inf"))
    ('0.012', '1,234', '100', 'inf')
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:,.0f}" if 99.5 <= abs(value) < 1e6 else f"{value:.2g}"


def percent(share: float) -> str:
    """Format a share as a percentage.

    >>> percent(4.0), percent(0.034), percent(1e-6)
    ('400 %', '3.4 %', '0.0001 %')
    """
    return f"{number(100 * share)} %"


def power_of_ten(factor: float) -> int:
    """Return the power of ten nearest to a factor on a logarithmic scale, at least 10.

    >>> power_of_ten(200), power_of_ten(35), power_of_ten(0.5)
    (100, 100, 10)
    """
    return int(10 ** max(1, round(math.log10(max(factor, 1e-300)))))


def join_names(names: Sequence[str], most: int = 3) -> str:
    """Join names with commas; only the number of those after the first few.

    >>> join_names(["fc1", "fc2"]), join_names(["a", "b", "c", "d"], 2)
    ('fc1, fc2', 'a, b and 2 more')
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
