"""Wording of causes and evidence: numbers, factors and lists of names."""

from collections.abc import Sequence

__all__ = ["named", "number", "percent"]


def number(value: float) -> str:
    """Format a number with two or three digits.

    >>> number(0.16234), number(31200.0), number(4.0), number(2.4e-14)
    ('0.162', '3.1e+04', '4', '2.4e-14')
    """
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e4:
        return f"{value:.3g}"
    return f"{value:.1e}"


def percent(share: float) -> str:
    """Format a share.

    >>> percent(0.976), percent(0.0004), percent(1.0)
    ('98 %', '0.04 %', '100 %')
    """
    return f"{100 * share:.2g} %" if share < 0.095 else f"{100 * share:.0f} %"


def named(names: Sequence[str], most: int = 3) -> str:
    """List names, and the number of those left out.

    >>> named(["a", "b"]), named(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
