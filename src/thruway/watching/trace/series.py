"""Reading quantities of many numbers per site: histograms, and arrays of the user's own."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.histograms import edges_of
from thruway.watching.sites import Kind, Site

__all__ = [
    "ArraySeries",
    "Histogram",
    "Histograms",
    "array_names",
    "has_parts",
    "read_arrays",
    "read_histogram",
    "read_histograms",
]


@dataclass(frozen=True)
class ArraySeries:
    """A quantity of m numbers per site: `values` (sites, steps, m), NaN where it was not measured."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    steps: NDArray[np.int64]  # those at which it was measured somewhere
    values: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The sites' names, in the order of the forward pass."""
        return [site.name for site in self.sites]


@dataclass(frozen=True)
class Histogram:
    """How one site's values were spread at one step: `counts` (bins,) between `edges` (bins + 1,)."""

    site: Site
    step: int
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Histograms:
    """The histograms of all sites of a kind at one step: `counts` (sites, bins), `edges` (sites, bins + 1)."""

    kind: Kind
    step: int
    sites: tuple[Site, ...]
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The sites' names, in the order of the forward pass."""
        return [site.name for site in self.sites]


class Sampled(Protocol):
    """One sampled step of a trace."""

    @property
    def number(self) -> int:
        """Which step."""

    @property
    def arrays(self) -> Sequence[Measured]:
        """What has many numbers per site."""


def array_names(steps: Sequence[Sampled], kind: Kind) -> list[str]:
    """The quantities of many numbers that were measured at sites of a kind."""
    found = ((m.quantity.name, m.sites) for step in steps for m in step.arrays)
    return list(dict.fromkeys(name for name, sites in found if any(site.kind == kind for site in sites)))


def has_parts(measured: Sequence[Measured]) -> bool:
    """A site was measured more than once."""
    met = [(m.quantity.name, site) for m in measured for site in m.sites]
    return len(set(met)) < len(met)


def read_arrays(steps: Sequence[Sampled], quantity: str, kind: Kind) -> ArraySeries:
    """One quantity at every site and step."""
    found = {step.number: dict(_numbers(step, quantity, kind)) for step in steps}
    found = {number: rows for number, rows in found.items() if rows}
    if not found:
        raise ConfigError(unknown_name(f"{kind} quantity of many numbers", quantity, array_names(steps, kind)))
    sites = sorted({site for rows in found.values() for site in rows}, key=lambda site: site.order)
    place = {site: row for row, site in enumerate(sites)}
    # Sites of unlike shape may give unlike lengths.
    length = max(len(row) for rows in found.values() for row in rows.values())
    values = np.full((len(sites), len(found), length), np.nan)
    for column, rows in enumerate(found.values()):
        for site, row in rows.items():
            values[place[site], column, : len(row)] = row
    return ArraySeries(quantity, kind, tuple(sites), np.array(list(found), dtype=np.int64), values)


def read_histogram(steps: Sequence[Sampled], name: str, kind: Kind, step: int | None) -> Histogram:
    """The histogram of one site; of the last step that has one, when `step` is None."""
    found = {
        s.number: [(site, row) for site, row in _numbers(s, "histogram", kind) if site.name == name] for s in steps
    }
    if not any(found.values()):
        names = {site.name for s in steps for site, _ in _numbers(s, "histogram", kind)}
        if names:
            raise ConfigError(unknown_name(f"{kind} site", name, names))
    number = _chosen(found, step, steps, kind)
    site, row = found[number][0]
    return Histogram(site, number, edges_of(row[0], row[1]), row[2:])


def read_histograms(steps: Sequence[Sampled], kind: Kind, step: int | None) -> Histograms:
    """The histograms of all sites of a kind; of the last step that has any, when `step` is None."""
    found = {s.number: sorted(_numbers(s, "histogram", kind), key=lambda pair: pair[0].order) for s in steps}
    number = _chosen(found, step, steps, kind)
    sites, rows = zip(*found[number], strict=True)
    edges = np.stack([edges_of(row[0], row[1]) for row in rows])
    return Histograms(kind, number, sites, edges, np.stack([row[2:] for row in rows]))


def _numbers(step: Sampled, quantity: str, kind: Kind) -> Iterator[tuple[Site, NDArray[np.float64]]]:
    for m in step.arrays:
        if m.quantity.name == quantity:
            rows = np.asarray(m.values, dtype=np.float64).reshape(len(m.sites), -1)
            yield from ((site, row) for site, row in zip(m.sites, rows, strict=True) if site.kind == kind)


def _chosen(found: Mapping[int, Sized], step: int | None, steps: Sequence[Sampled], kind: Kind) -> int:
    """The step to read."""
    measured = [number for number, pairs in found.items() if pairs]
    if not measured:
        known = ", ".join(array_names(steps, kind)) or "none"
        raise ConfigError(
            f"no histogram of any {kind} was taken (arrays that were: {known}). "
            'Watch with quantities=[*DEFAULT, "histogram"].'
        )
    if step is None:
        return measured[-1]
    if step not in measured:
        nearest = min(measured, key=lambda number: abs(number - step))
        raise ConfigError(
            f"no histogram of the {kind}s was taken at step {step}; the nearest of the {len(measured)} steps "
            f"that have one is {nearest}. Leave step out for the last one."
        )
    return step
