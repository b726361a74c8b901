"""How much a lesion costs, on a scale that nets of different skill share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

__all__ = ["Row", "Rows", "harm", "mean_by", "mean_of", "only"]

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


def harm(row: Mapping[str, Any]) -> float:
    """What of the net's skill is gone: 0 with the intact net's error, 1 with that of guessing; NaN if it had little.

        (error - intact) / (guessing - intact)

    Source:
        Ours: the paper shows errors, of nets far better than these.

    >>> harm({"error": 0.5, "intact": 0.1, "guessing": 0.9})
    0.5
    """
    skill = row["guessing"] - row["intact"]
    # A net that has hardly learnt has nothing to lose: of a difference of chances no verdict may come.
    return float((row["error"] - row["intact"]) / skill) if skill > 0.5 * row["guessing"] else math.nan


def only(rows: Rows, **values: Any) -> list[Mapping[str, Any]]:
    """The rows that have these values.

    >>> only([{"net": "a", "k": 1}, {"net": "b", "k": 1}], net="b")
    [{'net': 'b', 'k': 1}]
    """
    return [row for row in rows if all(row.get(name) == value for name, value in values.items())]


def mean_of(values: Iterable[float]) -> float:
    """The mean; NaN of nothing."""
    found = list(values)
    return fmean(found) if found else math.nan


def mean_by(rows: Rows, key: str, value: str) -> dict[Any, float]:
    """key -> mean of `value` over its rows, in the order of the keys.

    >>> mean_by([{"k": 2, "x": 1.0}, {"k": 1, "x": 5.0}, {"k": 2, "x": 3.0}], "k", "x")
    {1: 5.0, 2: 2.0}
    """
    found: dict[Any, list[float]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row[value])
    return {each: fmean(found[each]) for each in sorted(found)}
