"""Downsampling of large tables: evenly spaced positions, and groups of neighbours reduced to one number."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.figures.inputs import FloatArray

__all__ = ["REDUCTIONS", "downsample", "evenly_spaced", "group_starts", "largest", "mean", "smallest"]

Starts = NDArray[np.intp]


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` positions, evenly spaced, including the first and the last.

    >>> evenly_spaced(5, 12), evenly_spaced(1000, 4)
    ([0, 1, 2, 3, 4], [0, 333, 666, 999])
    """
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})


def group_starts(count: int, most: int) -> tuple[Starts, int]:
    """Return the start of each of at most `most` groups of neighbours, and the size of a group.

    >>> group_starts(5, 3)
    (array([0, 2, 4]), 2)
    """
    size = max(1, math.ceil(count / most))
    return np.arange(0, count, size), size


def largest(table: FloatArray, starts: Starts, axis: int) -> FloatArray:
    """Return the largest number of each group; NaN only if all are NaN."""
    return np.fmax.reduceat(table, starts, axis=axis)


def smallest(table: FloatArray, starts: Starts, axis: int) -> FloatArray:
    """Return the smallest number of each group; NaN only if all are NaN."""
    return np.fmin.reduceat(table, starts, axis=axis)


def extreme(table: FloatArray, starts: Starts, axis: int) -> FloatArray:
    """Return the number farthest from 0 in each group, with its sign."""
    high, low = largest(table, starts, axis), smallest(table, starts, axis)
    return np.where(-low > high, low, high)


def mean(table: FloatArray, starts: Starts, axis: int) -> FloatArray:
    """Return the mean of the finite numbers in each group, or NaN if a group has none."""
    known = np.isfinite(table)
    total = np.add.reduceat(np.where(known, table, 0), starts, axis=axis)
    counts = np.add.reduceat(known, starts, axis=axis, dtype=np.intp)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan).astype(table.dtype)


# Reductions of a group of cells of a heat map. "largest" keeps a single spike visible.
REDUCTIONS: dict[str, Callable[[FloatArray, Starts, int], FloatArray]] = {
    "largest": largest,
    "smallest": smallest,
    "farthest from 0": extreme,
    "mean": mean,
}


def downsample(table: FloatArray, starts: Starts, keep: str, axis: int) -> FloatArray:
    """Reduce each group along `axis` to one number, by a key of `REDUCTIONS`.

    Raises:
        ConfigError: for a name that is not in `REDUCTIONS`.

    >>> downsample(np.array([[1.0, -3.0, 2.0]]), np.array([0, 2]), "farthest from 0", axis=1)
    array([[-3.,  2.]])
    """
    if keep not in REDUCTIONS:
        raise ConfigError(unknown_name("keep", keep, REDUCTIONS))
    return table if len(starts) == table.shape[axis] else REDUCTIONS[keep](table, starts, axis)
