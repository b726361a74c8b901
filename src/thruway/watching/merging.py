"""One number per site from the parts of a step: micro-batches, or the shards of several processes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thruway.watching.collector import Measured
from thruway.watching.quantities import Quantity
from thruway.watching.sites import Site

__all__ = ["merge"]


def merge(measured: Sequence[Measured]) -> list[Measured]:
    """The same quantities with every site once: the numbers of the whole, from those of its parts.

    Means are weighted with the values behind them and spreads pooled round the common mean, so mean,
    std, extremes, shares and counts are those of the joined values. Percentiles and ranks are weighted means of
    the parts'. Norms are the last part's, since a parameter has no parts.
    """
    parts: dict[tuple[Quantity, Site], list[tuple[int, NDArray[np.float64]]]] = {}
    for m in measured:
        for site, value in zip(m.sites, m.values, strict=True):
            parts.setdefault((m.quantity, site), []).append((m.count, np.asarray(value, dtype=np.float64)))
    means = {site: values for (quantity, site), values in parts.items() if quantity.name == "mean"}
    whole: dict[tuple[Quantity, int], list[tuple[Site, NDArray[np.float64]]]] = {}
    for (quantity, site), values in parts.items():
        count = sum(n for n, _ in values)
        whole.setdefault((quantity, count), []).append((site, _joined(quantity, values, means.get(site))))
    return [
        Measured(quantity, tuple(site for site, _ in found), count, np.stack([value for _, value in found]))
        for (quantity, count), found in whole.items()
    ]


def _joined(
    quantity: Quantity,
    values: list[tuple[int, NDArray[np.float64]]],
    means: list[tuple[int, NDArray[np.float64]]] | None,
) -> NDArray[np.float64]:
    numbers = np.stack([value for _, value in values])
    if len(values) == 1:
        return np.asarray(numbers[0])
    weights = np.array([n for n, _ in values], dtype=np.float64) / sum(n for n, _ in values)
    if quantity.merge == "last":
        return np.asarray(numbers[-1])
    if quantity.merge == "std":
        squares = numbers**2
        if means is not None and len(means) == len(values):
            centres = np.stack([mean for _, mean in means])
            squares = squares + (centres - _average(weights, centres)) ** 2
        return np.asarray(np.sqrt(_average(weights, squares)))
    if quantity.merge in ("max", "min", "sum"):
        return np.asarray({"max": np.fmax, "min": np.fmin, "sum": np.add}[quantity.merge].reduce(numbers))
    return _average(weights, numbers)


def _average(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.tensordot(weights, values, 1))
