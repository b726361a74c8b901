"""Percentiles and histograms of a block of tensors.

A histogram is a vector: the smallest value, the largest value, then the counts of BINS bins of equal width between
them. Each tensor has its own bins.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.quantities.rows import Rows

__all__ = ["BINS", "bin_edges", "histogram", "merge_histograms", "percentile"]

BINS = 64


def percentile(rows: Rows, percent: float) -> Tensor:
    """Return the value below which `percent` of each tensor's finite values lie, by linear interpolation.

    Args:
        rows: a block of k tensors.
        percent: from 0 (the smallest value) to 100 (the largest).
    Returns:
        The percentiles, (k,), in the unit of the tensors; NaN if no value is finite.
    Source:
        Hyndman & Fan 1996, definition 7, the default of NumPy.

    >>> percentile(Rows(torch.tensor([[3.0, 1.0, 2.0, float("nan")]])), 75)
    tensor([2.5000])
    """
    if rows.count == 0:
        return rows.flat.new_full((len(rows.flat),), math.nan)
    last = rows.finite_count.double() - 1
    position = last * (percent / 100)
    below = position.floor().clamp_min(0)
    above = torch.minimum(below + 1, last.clamp_min(0))
    at = torch.stack([below, above], 1).long()
    left, right = rows.ascending.gather(1, at).double().unbind(1)
    share = position - below
    # Not left + (right - left) * share: the difference of two finite numbers can overflow.
    value = torch.where(left == right, left, left * (1 - share) + right * share)
    return torch.where(last >= 0, value, math.nan).to(rows.flat.dtype)


def histogram(rows: Rows) -> Tensor:
    """Return a histogram of each tensor's finite values.

    A bin includes its lower edge, and the last bin both edges. If all values are equal, they are in the middle bin.

    Args:
        rows: a block of k tensors.
    Returns:
        A tensor (k, 2 + BINS) of the smallest value, the largest value (NaN if no value is finite), and the counts.
    Source:
        The histograms of Glorot & Bengio 2010, figs. 4, 6-8.

    >>> low, high, *counts = histogram(Rows(torch.tensor([[0.0, 0.0, 0.5, 1.0]])))[0].tolist()
    >>> low, high, counts[0], counts[32], counts[63], sum(counts)
    (0.0, 1.0, 2.0, 1.0, 1.0, 4.0)
    """
    # Halved, because the span between float64's largest numbers would overflow.
    low, high = rows.low.double()[:, None] / 2, rows.high.double()[:, None] / 2
    is_spread = high > low
    position = rows.flat.double().div_(2) if rows.flat.dtype != torch.float64 else rows.flat / 2
    position.sub_(low).div_(torch.where(is_spread, high - low, 1.0)).mul_(BINS).clamp_(0, BINS - 1)
    position.add_(torch.where(is_spread, 0.0, BINS // 2))
    if not rows.all_finite:
        position = torch.where(rows.finite, position, BINS)
    counts = rows.flat.new_zeros(len(rows.flat), BINS + 1)
    counts.scatter_add_(1, position.long(), torch.ones_like(rows.low[:1]).expand_as(position))
    return torch.cat([rows.low[:, None], rows.high[:, None], counts[:, :BINS]], 1)


def bin_edges(low: float, high: float) -> NDArray[np.float64]:
    """Return the BINS + 1 edges between two values.

    If the values are equal, the bins extend around them over a width equal to the value itself, but at least 1.

    >>> bin_edges(0.0, 32.0)[:3].tolist(), bin_edges(5.0, 5.0)[[0, -1]].tolist()
    ([0.0, 0.5, 1.0], [2.5, 7.5])
    """
    if low == high:
        margin = max(abs(low), 1.0) / 2
        return np.linspace(low - margin, high + margin, BINS + 1)
    shares = np.arange(BINS + 1) / BINS
    return np.asarray(low * (1 - shares) + high * shares)


def merge_histograms(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Merge histograms into one, spreading the count of each bin evenly over its width.

    The extremes and the number of values are exact.
    """
    filled = [part for part in parts if part[2:].any()]
    if not filled:
        return np.asarray(parts[0])
    low, high = min(part[0] for part in filled), max(part[1] for part in filled)
    if low == high:
        return np.asarray(np.r_[low, high, np.sum(filled, axis=0)[2:]])
    edges, counts = bin_edges(low, high), np.zeros(BINS)
    for part in filled:
        if part[0] == part[1]:
            counts[min(int(np.searchsorted(edges, part[0], side="right")) - 1, BINS - 1)] += part[2:].sum()
        else:
            below = np.r_[0.0, np.cumsum(part[2:])]
            counts += np.diff(np.interp(edges, bin_edges(part[0], part[1]), below))
    return np.asarray(np.r_[low, high, counts])
