"""Formatting of values in tables and captions."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = ["format_value", "format_values", "is_number"]

MISSING = "–"


def is_number(value: Any) -> bool:
    """Return True if `value` is a number, which tables align right; booleans do not count."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def format_value(value: Any) -> str:
    """Format a value for a reader.

    >>> [format_value(v) for v in (12345, 0.012345678, 3.2e-7, float("nan"), None, True, "tanh")]
    ['12,345', '0.01235', '3.2e-07', 'NaN', '–', 'yes', 'tanh']
    """
    if value is None:
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return _format_float(float(value))
    return str(value)


def _format_float(number: float) -> str:
    """Format with four significant digits, without an exponent if that is short."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    # "g" suits smaller numbers down to 0.0001; for larger ones it would drop digits before the point.
    return f"{number:,.0f}" if 999.95 <= abs(number) < 1e5 else f"{number:.4g}"


def format_values(value: float | Sequence[float]) -> str:
    """Format one number, or the numbers of several seeds.

    >>> format_values(0.5), format_values([0.5, 0.25])
    ('0.5', '0.5 · 0.25 (per seed)')
    """
    if isinstance(value, Sequence | np.ndarray):
        text = " · ".join(format_value(each) for each in value) or MISSING
        return f"{text} (per seed)" if len(value) > 1 else text
    return format_value(value)
