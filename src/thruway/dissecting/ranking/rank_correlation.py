"""Spearman's rank correlation of two rankings, with a bootstrap interval and a permutation test."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from thruway.errors import ConfigError, ShapeError

__all__ = ["RankCorrelation", "average_ranks", "rank_correlation", "spearman"]

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 1 << 20  # elements in one block of resampled ranks


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rank correlation of two sequences.

    Attributes:
        rho: from -1 (reversed order) to 1 (same order); NaN if one sequence is constant.
        low, high: ends of the bootstrap interval over the items.
        level: coverage of the interval, such as 0.95.
        chance: p-value of a one-sided permutation test: share of the shuffled orders that agree at least as well.
        count: number of pairs without NaN.
    """

    rho: float
    low: float
    high: float
    level: float
    chance: float
    count: int

    def __str__(self) -> str:
        return f"{self.rho:.2f} ({self.level:.0%} interval {self.low:.2f} to {self.high:.2f}, {self.count} pairs)"


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's correlation of the ranks. Ties get the mean of their ranks.

    Args:
        a, b: sequences of equal length. Pairs with a NaN are ignored.
    Returns:
        From -1 to 1; NaN for fewer than two pairs, or if one sequence is constant.
    Raises:
        ShapeError: if the sequences differ in length.
    Source:
        Spearman 1904.

    >>> spearman([1, 2, 3, 4], [10, 20, 30, 5])
    -0.2
    """
    a, b = _known(a, b)
    return float(_pearson(average_ranks(a[None]), average_ranks(b[None]))[0])


def rank_correlation(
    a: ArrayLike, b: ArrayLike, *, draws: int = 2000, level: float = 0.95, generator: torch.Generator | None = None
) -> RankCorrelation:
    """Spearman's rank correlation with a bootstrap interval over the items and a permutation test.

    Args:
        a, b: sequences of equal length, such as predicted and measured changes. Pairs with a NaN are ignored.
        draws: number of resamples, and number of shuffles.
        level: coverage of the interval, whose ends are percentiles of the resampled correlations.
        generator: generator for the draws. Default: one with a fixed seed.
    Raises:
        ShapeError: if the sequences differ in length.
        ConfigError: if `level` is not between 0 and 1, or `draws` is below 1.

    >>> found = rank_correlation([1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5])
    >>> round(found.rho, 3), found.count, found.low < found.rho <= found.high
    (0.886, 6, True)
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}. The usual level is 0.95.")
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}. The usual number is 2000.")
    a, b = _known(a, b)
    count, rho = len(a), spearman(a, b)
    if math.isnan(rho):
        return RankCorrelation(rho, math.nan, math.nan, level, math.nan, count)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    resampled, shuffled = _drawn(a, b, draws, generator)
    resampled = resampled[np.isfinite(resampled)]  # a resample may consist of one item only
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]) if len(resampled) else (math.nan, math.nan)
    # The actual order counts as one of the shuffles.
    chance = (1 + int((shuffled >= rho - 1e-12).sum())) / (1 + draws)
    return RankCorrelation(rho, float(low), float(high), level, chance, count)


def average_ranks(rows: Floats) -> Floats:
    """Ranks from 1 within each row. Ties get the mean of their ranks.

    >>> average_ranks(np.array([[3.0, 1.0, 3.0, 2.0]]))
    array([[3.5, 1. , 3.5, 2. ]])
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    places = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    is_new = np.concatenate([np.ones((len(rows), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    is_last = np.concatenate([is_new[:, 1:], np.ones((len(rows), 1), bool)], axis=1)
    first = np.maximum.accumulate(np.where(is_new, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(is_last, places, rows.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return ranks


def _known(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ShapeError(f"two rankings must have the same length, got shapes {a.shape} and {b.shape}.")
    known = ~(np.isnan(a) | np.isnan(b))
    return a[known], b[known]


def _pearson(a: Floats, b: Floats) -> Floats:
    """Pearson's correlation row by row; NaN where a row is constant."""
    if a.shape[1] < 2:
        return np.full(len(a), np.nan)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norms = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    rho: Floats = np.divide((a * b).sum(axis=1), norms, out=np.full(len(a), np.nan), where=norms > 0)
    return rho


def _drawn(a: Floats, b: Floats, draws: int, generator: torch.Generator) -> tuple[Floats, Floats]:
    """Return the correlations of resampled pairs, and those of `a` with shuffled `b`."""
    block = max(1, _DRAWS_AT_ONCE // len(a))
    ranks_a, ranks_b = average_ranks(a[None]), average_ranks(b[None])
    resampled, shuffled = [], []
    for start in range(0, draws, block):
        size = (min(block, draws - start), len(a))
        picks = torch.randint(len(a), size, generator=generator, device=generator.device).cpu().numpy()
        resampled.append(_pearson(average_ranks(a[picks]), average_ranks(b[picks])))
        orders = torch.rand(size, generator=generator, device=generator.device).argsort(dim=1).cpu().numpy()
        shuffled.append(_pearson(np.broadcast_to(ranks_a, size), ranks_b[0][orders]))
    return np.concatenate(resampled), np.concatenate(shuffled)
