"""Selection and averaging of the rows of a study."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from thruway.experiments.machinery.study import Rows

__all__ = ["mean_by", "mean_of", "only", "over_seeds"]


def only(rows: Rows, **values: Any) -> list[Mapping[str, Any]]:
    """Return the rows with these values.

    >>> only([{"net": "a", "k": 1}, {"net": "b", "k": 1}], net="b")
    [{'net': 'b', 'k': 1}]
    """
    return [row for row in rows if all(row.get(name) == value for name, value in values.items())]


def mean_of(values: Iterable[float]) -> float:
    """Return the mean; NaN if there are no values."""
    found = list(values)
    return fmean(found) if found else math.nan


def mean_by(rows: Rows, key: str, value: str) -> dict[Any, float]:
    """Return the mean of `value` over the rows with each key, ordered by key.

    >>> mean_by([{"k": 2, "x": 1.0}, {"k": 1, "x": 5.0}, {"k": 2, "x": 3.0}], "k", "x")
    {1: 5.0, 2: 2.0}
    """
    found: dict[Any, list[float]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row[value])
    return {each: fmean(found[each]) for each in sorted(found)}


def over_seeds(rows: Rows, key: str, value: str = "error") -> dict[Any, tuple[float, float, float]]:
    """Return (mean over seeds, lowest, highest) for each key. For a single seed, the interval in its row is used.

    >>> over_seeds([{"index": 0, "error": 0.25}, {"index": 0, "error": 0.75}], "index")
    {0: (0.5, 0.25, 0.75)}
    """
    found: dict[Any, tuple[float, float, float]] = {}
    for each in sorted({row[key] for row in rows}):
        mine: list[Mapping[str, Any]] = only(rows, **{key: each})
        values = [row[value] for row in mine]
        low, high = min(values), max(values)
        if len(mine) == 1 and "low" in mine[0]:
            low, high = mine[0]["low"], mine[0]["high"]
        found[each] = mean_of(values), low, high
    return found
