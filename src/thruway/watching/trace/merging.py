"""Merging of the parts of a step (micro-batches, or shards of several processes) into one number per site."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.distributions import merge_histograms
from thruway.watching.quantities.table import Quantity
from thruway.watching.sites import Site

__all__ = ["merge"]

_Parts = list[tuple[int, NDArray[np.float64]]]


def merge(measured: Sequence[Measured]) -> list[Measured]:
    """Return the same quantities with a single number for each site.

    Means are weighted by their number of values, and standard deviations are pooled about the common mean, so mean,
    std, extremes, shares and counts are those of the concatenated values. Non-finite values have no weight if nan and
    inf were counted. Percentiles and ranks are weighted means over the parts. Histograms keep their extremes and
    number of values, and spread each count evenly over its bin. Norms are those of the last part, because parameters do
    not have parts.
    """
    parts: dict[tuple[Quantity, Site], _Parts] = {}
    for m in measured:
        for site, value in zip(m.sites, m.values, strict=True):
            parts.setdefault((m.quantity, site), []).append((m.count, np.asarray(value, dtype=np.float64)))
    by_name = {(quantity.name, site): values for (quantity, site), values in parts.items()}
    whole: dict[tuple[Quantity, int], list[tuple[Site, NDArray[np.float64]]]] = {}
    for (quantity, site), values in parts.items():
        count = sum(n for n, _ in values)
        means = by_name.get(("mean", site))
        number = values[0][1] if len(values) == 1 else _merged(quantity, values, _weights(values, by_name, site), means)
        whole.setdefault((quantity, count), []).append((site, number))
    return [
        Measured(quantity, tuple(site for site, _ in found), count, np.stack([value for _, value in found]))
        for (quantity, count), found in whole.items()
    ]


def _weights(values: _Parts, by_name: dict[tuple[str, Site], _Parts], site: Site) -> NDArray[np.float64]:
    """Return the number of values of each part, without non-finite ones where these were counted."""
    weights = np.array([n for n, _ in values], dtype=np.float64)
    for name in ("nan", "inf"):
        bad = by_name.get((name, site), [])
        if len(bad) == len(values):
            weights -= [number for _, number in bad]
    return weights


def _merged(
    quantity: Quantity, values: _Parts, weights: NDArray[np.float64], means: _Parts | None
) -> NDArray[np.float64]:
    numbers = np.stack([value for _, value in values])
    if quantity.merge == "last":
        return np.asarray(numbers[-1])
    if quantity.merge == "histogram":
        return merge_histograms(list(numbers))
    if quantity.merge in ("max", "min", "sum"):
        return np.asarray({"max": np.fmax, "min": np.fmin, "sum": np.add}[quantity.merge].reduce(numbers))
    if quantity.merge in ("std", "rms"):
        centres = np.zeros_like(numbers)
        if quantity.merge == "std" and means is not None and len(means) == len(values):
            centres = np.stack([mean for _, mean in means])
            centres = centres - _average(weights, centres)
        return _root_mean_square(weights, numbers, centres)
    return _average(weights, numbers)


def _root_mean_square(
    weights: NDArray[np.float64], sizes: NDArray[np.float64], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    # Divided by the largest, so that no square underflows.
    scale = max(np.nanmax(np.abs(part), initial=0.0) for part in (sizes, centres)) or 1.0
    return np.asarray(np.sqrt(_average(weights, (sizes / scale) ** 2 + (centres / scale) ** 2)) * scale)


def _average(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean over parts, excluding parts that are NaN because they have no finite values."""
    weights = np.where(np.isnan(values), 0.0, weights.reshape(-1, *[1] * (values.ndim - 1)))
    total = weights.sum(0)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, np.nansum(weights / total * values, axis=0), np.nan)
