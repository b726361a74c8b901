"""Histograms of a block: equal bins between each tensor's own smallest and largest value.

One histogram is a vector: the smallest value, the largest, then the counts of BINS bins.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.quantities.rows import Rows

__all__ = ["BINS", "edges_of", "histogram", "joined"]

BINS = 64


def histogram(rows: Rows) -> Tensor:
    """How a tensor's finite values are spread between the smallest and the largest of them.

    The bins have equal widths and hold their lower edge; the last one holds both. Where all values are equal, the
    middle bin holds them.

    Args:
        rows: a block of k tensors.
    Returns:
        (k, 2 + BINS): smallest value, largest value (NaN where none is finite), counts.
    Source:
        The histograms of Glorot & Bengio 2010, figs. 4, 6-8.

    >>> low, high, *counts = histogram(Rows(torch.tensor([[0.0, 0.0, 0.5, 1.0]])))[0].tolist()
    >>> low, high, counts[0], counts[32], counts[63], sum(counts)
    (0.0, 1.0, 2.0, 1.0, 1.0, 4.0)
    """
    # In halves, as the span of float64's largest numbers would overflow.
    low, high = rows.low.double()[:, None] / 2, rows.high.double()[:, None] / 2
    is_spread = high > low
    position = rows.flat.double().div_(2) if rows.flat.dtype != torch.float64 else rows.flat / 2
    position.sub_(low).div_(torch.where(is_spread, high - low, 1.0)).mul_(BINS).clamp_(0, BINS - 1)
    position.add_(torch.where(is_spread, 0.0, BINS // 2))
    if not rows.is_plain:
        position = torch.where(rows.finite, position, BINS)
    counts = rows.flat.new_zeros(len(rows.flat), BINS + 1)
    counts.scatter_add_(1, position.long(), torch.ones_like(rows.low[:1]).expand_as(position))
    return torch.cat([rows.low[:, None], rows.high[:, None], counts[:, :BINS]], 1)


def edges_of(low: float, high: float) -> NDArray[np.float64]:
    """The BINS + 1 edges between two values; where they are equal, as wide as the value (at least 1) around it.

    >>> edges_of(0.0, 32.0)[:3].tolist(), edges_of(5.0, 5.0)[[0, -1]].tolist()
    ([0.0, 0.5, 1.0], [2.5, 7.5])
    """
    if low == high:
        margin = max(abs(low), 1.0) / 2
        return np.linspace(low - margin, high + margin, BINS + 1)
    shares = np.arange(BINS + 1) / BINS
    return np.asarray(low * (1 - shares) + high * shares)


def joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One histogram of the values behind several, each bin's count spread evenly over its width.

    The extremes and the number of values are exact.
    """
    filled = [part for part in parts if part[2:].any()]
    if not filled:
        return np.asarray(parts[0])
    low, high = min(part[0] for part in filled), max(part[1] for part in filled)
    if low == high:
        return np.asarray(np.r_[low, high, np.sum(filled, axis=0)[2:]])
    edges, counts = edges_of(low, high), np.zeros(BINS)
    for part in filled:
        if part[0] == part[1]:
            counts[min(int(np.searchsorted(edges, part[0], side="right")) - 1, BINS - 1)] += part[2:].sum()
        else:
            below = np.r_[0.0, np.cumsum(part[2:])]
            counts += np.diff(np.interp(edges, edges_of(part[0], part[1]), below))
    return np.asarray(np.r_[low, high, counts])
