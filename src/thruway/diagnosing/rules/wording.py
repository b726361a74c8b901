"""Wording of numbers and lists in the sentences of findings."""

import math
from collections.abc import Sequence

from thruway.diagnosing.wording import number as formatted
from thruway.diagnosing.wording import site_text

__all__ = ["join_names", "layer_text", "number", "output_text", "part", "percent", "power_of_ten", "product"]

_NOTHING = 1e-12  # a smaller share is below the rounding of float64 sums of a few thousand values


def number(value: float) -> str:
    """Format a number with two significant digits.

    >>> number(0.01234), number(1234.0), number(99.9), number(float("inf"))
    ('0.012', '1,234', '100', 'inf')
    """
    return formatted(value, 2)


def percent(share: float) -> str:
    """Format a share as a percentage.

    >>> percent(4.0), percent(0.034), percent(1e-6), percent(0.9999)
    ('400 %', '3.4 %', '0.0001 %', 'nearly 100 %')
    """
    return "nearly 100 %" if 0.995 <= share < 1 else f"{number(100 * share)} %"


def part(share: float) -> str:
    """Return a share as a number, or in words if it is too small to matter.

    >>> part(0.031), part(7.1e-118), part(0.0)
    ('0.031', 'practically nothing', 'nothing')
    """
    if 0 < share < _NOTHING:
        return "practically nothing"
    return "nothing" if share == 0 else number(share)


def product(value: float) -> str:
    """Return a product of many factors, without an exponent of three digits.

    >>> product(0.31), product(7.1e-118)
    ('0.31', 'practically 0')
    """
    return number(value) if value >= _NOTHING else "practically 0"


def layer_text(name: str) -> str:
    """Return the name of a site in a sentence, where a bare number such as "0" would be read as a number.

    >>> layer_text("layers.3"), layer_text("0"), layer_text("1#2"), layer_text("")
    ('layers.3', 'module 0', 'module 1#2', 'the model itself')
    """
    return f"module {name}" if name[:1].isdigit() and not name.isdigit() else site_text(name)


def output_text(name: str) -> str:
    """Return the output of a site in a sentence.

    >>> output_text("norm"), output_text("3"), output_text("output")
    ('the output of norm', 'the output of module 3', 'the output of the model')
    """
    return "the output of the model" if name in ("", "output") else f"the output of {layer_text(name)}"


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
