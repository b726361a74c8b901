"""Exact counts of the paths through a model by length."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from thruway.dissecting.paths.routes import routes_on
from thruway.dissecting.paths.start import Where, start_of
from thruway.dissecting.running.engine import Engine
from thruway.errors import ConfigError
from thruway.runs import Table

__all__ = ["LengthRange", "PathLengths", "path_lengths", "path_survival", "shortest_range"]


class LengthRange(NamedTuple):
    """A range of path lengths.

    Args:
        shortest, longest: the ends, both included.
        share: the fraction of the weight on these lengths.
        paths: the fraction of all paths that have these lengths.
    """

    shortest: int
    longest: int
    share: float
    paths: float


@dataclass(frozen=True)
class PathLengths:
    """The number of paths of each length. For n identity branches in a row it is n over k.

    Attributes:
        counts: exact integers, by length from 0.
    """

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """The number of all paths: 2^n for n branches in a row."""
        return sum(self.counts)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each length: its count divided by the number of all paths."""
        return tuple(count / self.total for count in self.counts)

    @property
    def mean(self) -> float:
        """The mean length."""
        return sum(length * count for length, count in enumerate(self.counts)) / self.total

    def range(self, share: float = 0.95) -> LengthRange:
        """The shortest range of lengths with at least this share of all paths."""
        return shortest_range(self.shares, self.counts, share)

    def table(self) -> Table:
        """A row for each length: length, paths, share."""
        counts = list(map(float, self.counts))
        return Table({"length": list(range(len(counts))), "paths": counts, "share": list(self.shares)})

    def __repr__(self) -> str:
        if not self.total:
            return "no path leads from the start to the output"
        most = self.range()
        return (
            f"{self.total:,} paths, of length 0 to {len(self.counts) - 1}, {self.mean:.1f} on average; "
            f"{most.share:.1%} of them have {most.shortest} to {most.longest}"
        )


def path_lengths(engine: Engine, *, without: Iterable[int] = (), where: Where | None = None) -> PathLengths:
    """Count the paths of each length from the start to the model's outputs.

    The length of a path is the number of branches on it. Shortcuts, including projections, do not count. A branch
    within a branch counts on the paths through both. Counts are exact integers at any depth.

    Args:
        without: indices of branches to leave out.
        where: see `path_gradients`.
    Raises:
        DissectError: if the model has no branch.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.1 (binomial for a chain). The count for any graph is ours.

    >>> import torch
    >>> from torch import nn
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> net = nn.Sequential(*(Residual(nn.Linear(2, 2)) for _ in range(4)))
    >>> dissect(net, torch.ones(1, 2)).path_lengths().counts
    (1, 4, 6, 4, 1)
    """
    start = start_of(engine.model, engine.tape, engine.branches, where)
    routes = routes_on(engine.tape, engine.branches, start.value)
    return PathLengths(routes.counts(_checked_indices(engine, without)))


def path_survival(engine: Engine, deleted: int | Iterable[int], *, where: Where | None = None) -> tuple[float, ...]:
    """Return the share of the paths of each length that remain when branches are deleted.

    For a number d it is the mean over all ways to delete d of the n branches, C(n-d, x) / C(n, x) at length x. This
    holds in any graph, since no path takes a branch twice. For indices, the remaining paths are counted.

    Args:
        deleted: a number of branches, or their indices.
        where: see `path_gradients`.
    Returns:
        The share for each length; NaN for a length without paths.
    Raises:
        ConfigError: for more branches than there are, or for indices that do not exist.
    Source:
        Veit, Wilber & Belongie 2016, sec. 4.3, fig. 7.

    >>> import torch
    >>> from torch import nn
    >>> from thruway.dissecting import dissect
    >>> from thruway.nn import Residual
    >>> d = dissect(nn.Sequential(*(Residual(nn.Linear(2, 2)) for _ in range(4))), torch.ones(1, 2))
    >>> d.path_survival(2), d.path_survival([0, 3])
    ((1.0, 0.5, 0.166..., 0.0, 0.0), (1.0, 0.5, 0.166..., 0.0, 0.0))
    """
    intact = path_lengths(engine, where=where).counts
    if isinstance(deleted, int):
        return tuple(
            _share(left, whole)
            for length, count in enumerate(intact)
            for left, whole in [_surviving(len(engine.branches), length, deleted) if count else (0, 0)]
        )
    left_over = path_lengths(engine, without=deleted, where=where).counts
    padded = (*left_over, *(0 for _ in range(len(intact) - len(left_over))))
    return tuple(_share(left, whole) for left, whole in zip(padded, intact, strict=True))


def shortest_range(weights: Sequence[float], counts: Sequence[int], share: float) -> LengthRange:
    """The shortest range of lengths with at least this share of the weight; of several such ranges, the one with the
    largest weight.

    Raises:
        ConfigError: if `share` is not above 0 and at most 1, or all weights are 0.

    >>> shortest_range([0.1, 0.6, 0.2, 0.1], [1, 3, 3, 1], 0.75)
    LengthRange(shortest=1, longest=2, share=0.8..., paths=0.75)
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share must be above 0 and at most 1, got {share!r}. Pass 0.95 for 95 %.")
    whole = sum(weights)
    if not whole > 0:
        raise ConfigError("all lengths have weight 0: the gradient is 0 or not finite. Check the loss.")
    slack = 1e-12  # for rounding of sums
    for width in range(1, len(weights) + 1):
        sums = [sum(weights[low : low + width]) / whole for low in range(len(weights) - width + 1)]
        best = max(range(len(sums)), key=sums.__getitem__)
        if sums[best] >= share - slack:
            return LengthRange(best, best + width - 1, sums[best], sum(counts[best : best + width]) / sum(counts))
    return LengthRange(0, len(weights) - 1, 1.0, 1.0)


def _surviving(branches: int, length: int, deleted: int) -> tuple[int, int]:
    if not 0 <= deleted <= branches:
        raise ConfigError(f"cannot delete {deleted} of {branches} branches. Pass 0 to {branches}.")
    return math.comb(branches - deleted, length), math.comb(branches, length)


def _share(left: int, whole: int) -> float:
    return left / whole if whole else float("nan")


def _checked_indices(engine: Engine, without: Iterable[int]) -> frozenset[int]:
    indices = frozenset(without)
    unknown = sorted(index for index in indices if not 0 <= index < len(engine.branches))
    if unknown:
        raise ConfigError(f"there are branches 0 to {len(engine.branches) - 1}, got {unknown}. See summary().")
    return indices
