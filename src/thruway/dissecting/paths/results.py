"""Results of path analyses: a weight for every length and example, and statistics of them."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.dissecting.paths.effective_depth import EffectiveDepth, depth_with_interval
from thruway.dissecting.paths.lengths import LengthRange, shortest_range
from thruway.runs import Table

__all__ = ["ByLength", "PathGradients", "SampledPaths"]


class ByLength(abc.ABC):
    """Interface of the results of a path analysis.

    Attributes:
        paths: number of paths of each length.
    """

    paths: tuple[int, ...]

    @property
    @abc.abstractmethod
    def weights(self) -> Tensor:
        """Weight of the paths of each length for each example: (lengths, examples), up to a common factor."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Path lengths, from 0 to that of the longest path."""
        return tuple(range(len(self.paths)))

    @property
    def contribution(self) -> Tensor:
        """Share of each length in the mean weight over examples: (lengths,), with sum 1."""
        mean = self.weights.double().mean(1)
        return mean / mean.sum()

    def effective_paths(self, share: float = 0.95) -> LengthRange:
        """The shortest range of lengths with at least this share of the contribution.

        Raises:
            ConfigError: if `share` is not above 0 and at most 1.
        """
        return shortest_range(self.contribution.tolist(), self.paths, share)

    def effective_depth(
        self, level: float = 0.95, resamples: int = 1000, generator: torch.Generator | None = None
    ) -> EffectiveDepth:
        """The mean path length by weight, with a bootstrap interval over examples.

        Raises:
            ConfigError: if `level` is not between 0 and 1.
        """
        return depth_with_interval(self.weights, level, resamples, generator)


@dataclass(frozen=True, eq=False)
class PathGradients(ByLength):
    """Exact gradients by path length, as returned by `path_gradients`.

    g_k is the vector sum over all paths of length k, which may cancel; ||g_k|| is the gradient that they carry
    together. The paper samples single paths and multiplies their mean norm by their number, as if all pointed the
    same way; see `SampledPaths`. For all paths of a length, that product is never below ||g_k||.

    Attributes:
        paths: number of paths of each length.
        norms: ||g_k||_2, (lengths, examples).
        along: <g_k, g>, where g is the whole gradient, (lengths, examples).
        full: ||g||_2, (examples,).
        gradients: g_k, (lengths, examples, ...); None unless `keep` was set.
    """

    paths: tuple[int, ...]
    norms: Tensor
    along: Tensor
    full: Tensor
    gradients: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        return self.norms

    @property
    def mean(self) -> Tensor:
        """Mean of ||g_k||_2 over examples: (lengths,)."""
        return self.norms.mean(1)

    @property
    def share(self) -> Tensor:
        """Signed share of each length in the whole gradient, <g_k, g> / <g, g> over all examples: (lengths,).

        The sum is 1. A share is negative if g_k points against g.
        """
        return self.along.double().sum(1) / self.along.double().sum()

    def table(self) -> Table:
        """A row for each length: length, paths, gradient, contribution, share."""
        columns = {"gradient": self.mean, "contribution": self.contribution, "share": self.share}
        return _table(self.paths, columns)

    def __repr__(self) -> str:
        return _describe("exact gradients by path length", self)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@dataclass(frozen=True, eq=False)
class SampledPaths(ByLength):
    """Gradients along randomly drawn paths, as returned by `sampled_paths`.

    Attributes:
        paths: number of paths of each length.
        norms: norm of the gradient along each drawn path, (lengths, draws, examples). 0 for lengths without paths.
    """

    paths: tuple[int, ...]
    norms: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean norm along a path of each length: (lengths,)."""
        return self.norms.mean((1, 2))

    @property
    def spread(self) -> Tensor:
        """Standard deviation over paths of the norm averaged over examples: (lengths,)."""
        by_path = self.norms.mean(2)
        return by_path.std(1) if by_path.shape[1] > 1 else torch.full_like(by_path[:, 0], math.nan)

    @property
    def weights(self) -> Tensor:
        """Fraction of paths of each length times their mean norm."""
        whole = sum(self.paths)
        share = torch.tensor([count / whole for count in self.paths], dtype=torch.float64, device=self.norms.device)
        return share[:, None] * self.norms.double().mean(1)

    def table(self) -> Table:
        """A row for each length: length, paths, gradient, spread, contribution."""
        columns = {"gradient": self.mean, "spread": self.spread, "contribution": self.contribution}
        return _table(self.paths, columns)

    def __repr__(self) -> str:
        draws = self.norms.shape[1]
        return _describe(f"{draws} path{'s' if draws > 1 else ''} drawn of each length", self)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _table(paths: tuple[int, ...], columns: dict[str, Tensor]) -> Table:
    whole = sum(paths)
    shares = [count / whole for count in paths]
    numbers = {name: values.tolist() for name, values in columns.items()}
    return Table({"length": list(range(len(paths))), "paths": shares, **numbers})


def _describe(title: str, result: PathGradients | SampledPaths) -> str:
    if not result.weights.sum() > 0:
        return f"{title}: no gradient arrives"
    effective, depth = result.effective_paths(), result.effective_depth()
    return (
        f"{title}: lengths 0 to {len(result.paths) - 1}, 95 % of the gradient on {effective.shortest} to "
        f"{effective.longest}, {effective.paths:.3%} of all paths\n{depth}\n{result.table()!r}"
    )
