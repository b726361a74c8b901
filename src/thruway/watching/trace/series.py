"""Series and histograms read from a trace.

`ReadableTrace` is the part of a Trace used by its summary, its figures and its notebook view.
"""

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.watching.facts import LossNode
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.distributions import bin_edges
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.steps import BadValue, Step

# Steps that are transposed together: few enough for the processor's cache, with thousands of sites.
_STEPS_AT_ONCE = 32
_LARGE = 2**22  # bytes

__all__ = [
    "ArraySeries",
    "Histogram",
    "Histograms",
    "ReadableTrace",
    "Series",
    "array_names",
    "check_last",
    "empty_array",
    "has_parts",
    "read_arrays",
    "read_histogram",
    "read_histograms",
    "series_of",
]


@dataclass(frozen=True)
class Series:
    """One quantity: `values` (sites, steps) at the steps where it was measured; NaN where a site has no value."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The names of the sites, in the order of the forward pass."""
        return [site.name for site in self.sites]


@dataclass(frozen=True)
class ArraySeries:
    """A quantity with m numbers per site: `values` (sites, steps, m), NaN where it was not measured."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    steps: NDArray[np.int64]  # the steps where it was measured at some site
    values: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The names of the sites, in the order of the forward pass."""
        return [site.name for site in self.sites]


@dataclass(frozen=True)
class Histogram:
    """The histogram of the values of one site at one step: `counts` (bins,) between `edges` (bins + 1,)."""

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
        """The names of the sites, in the order of the forward pass."""
        return [site.name for site in self.sites]


class ReadableTrace(Protocol):
    """Interface of a Trace for its views."""

    model: str
    kept_every: int
    first_bad: BadValue | None
    failure: Exception | None
    units: dict[str, str]
    optimizer: str
    loss_graph: tuple[LossNode, ...]

    @property
    def probe(self) -> "ReadableTrace | None":
        """The trace recorded on the probe batch, if there is one."""

    @property
    def steps(self) -> list[int]:
        """The stored steps."""

    @property
    def sites(self) -> list[Site]:
        """All sites."""

    def quantities(self, kind: Kind = "output") -> list[str]:
        """The quantities with one number per site, at sites of a kind."""

    def array_quantities(self, kind: Kind = "output") -> list[str]:
        """The quantities with many numbers per site, at sites of a kind."""

    def series(self, quantity: str, kind: Kind | None = None, *, last: int | None = None) -> Series:
        """The values of one quantity at every site and step."""

    def histograms(self, kind: Kind = "output", step: int | None = None) -> Histograms:
        """The histograms of all sites of a kind at one step."""


def empty_array(*shape: int) -> NDArray[np.float64]:
    """Return an uninitialised array whose pages are already allocated, if it is large and on Linux.

    In other arrays the first access to each page is a page fault, which for large arrays can take longer than writing.
    """
    size = 8 * math.prod(shape)
    if size < _LARGE or not hasattr(mmap, "MAP_POPULATE"):
        return np.empty(shape)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except OSError:  # not enough memory for all pages at once
        return np.empty(shape)
    return np.frombuffer(memory).reshape(shape)


def check_last(last: Any) -> None:
    """Raise a ConfigError if `last` is neither None nor an integer of at least 1."""
    is_integer = isinstance(last, int | np.integer) and not isinstance(last, bool)
    if last is not None and (not is_integer or last < 1):
        raise ConfigError(f"last must be an integer of at least 1, or None for all steps, got {last!r}.")


def series_of(columns: Sequence[tuple[int, tuple[Site, ...], NDArray[Any]]], quantity: str, kind: Kind) -> Series:
    """Return the series of (step, sites, numbers), whose sites may differ from step to step."""
    # Steps of one layout share a tuple of sites; comparing identities is quick, hashing thousands of sites is not.
    distinct = {id(sites): sites for _, sites, _ in columns}
    found = {site for sites in distinct.values() for site in sites}
    ordered = sorted(found, key=lambda site: site.order)
    row_of = {site: row for row, site in enumerate(ordered)}
    rows = {key: np.array([row_of[site] for site in sites], dtype=np.int64) for key, sites in distinct.items()}
    is_in_order = tuple(ordered) in distinct.values() and len(distinct) == 1
    values = empty_array(len(ordered), len(columns))
    for start in range(0, len(columns), _STEPS_AT_ONCE):
        some = columns[start : start + _STEPS_AT_ONCE]
        if is_in_order:  # one layout, whose sites are in order
            by_step = np.array([numbers for _, _, numbers in some], dtype=np.float64)
        else:
            by_step = np.full((len(some), len(ordered)), np.nan)
            for column, (_, sites, numbers) in enumerate(some):
                by_step[column, rows[id(sites)]] = numbers
        values[:, start : start + len(some)] = by_step.T
    steps = np.array([number for number, _, _ in columns], dtype=np.int64)
    return Series(quantity, kind, tuple(ordered), steps, values)


def array_names(steps: Sequence[Step], kind: Kind) -> list[str]:
    """Return the quantities with many numbers that were measured at sites of a kind."""
    found = ((m.quantity.name, m.sites) for step in steps for m in step.arrays)
    return list(dict.fromkeys(name for name, sites in found if any(site.kind == kind for site in sites)))


def has_parts(measured: Sequence[Measured]) -> bool:
    """Return True if a site was measured more than once."""
    pairs = [(m.quantity.name, site) for m in measured for site in m.sites]
    return len(set(pairs)) < len(pairs)


def read_arrays(steps: Sequence[Step], quantity: str, kind: Kind) -> ArraySeries:
    """Read a quantity with many numbers at every site and step."""
    found = {step.number: dict(_numbers(step, quantity, kind)) for step in steps}
    found = {number: rows for number, rows in found.items() if rows}
    if not found:
        raise ConfigError(unknown_name(f"{kind} quantity of many numbers", quantity, array_names(steps, kind)))
    sites = sorted({site for rows in found.values() for site in rows}, key=lambda site: site.order)
    place = {site: row for row, site in enumerate(sites)}
    # The number of values may differ between sites of different shape.
    length = max(len(row) for rows in found.values() for row in rows.values())
    values = np.full((len(sites), len(found), length), np.nan)
    for column, rows in enumerate(found.values()):
        for site, row in rows.items():
            values[place[site], column, : len(row)] = row
    return ArraySeries(quantity, kind, tuple(sites), np.array(list(found), dtype=np.int64), values)


def read_histogram(steps: Sequence[Step], name: str, kind: Kind, step: int | None) -> Histogram:
    """Read the histogram of one site, by default of the last step that has one."""
    found = {
        s.number: [(site, row) for site, row in _numbers(s, "histogram", kind) if site.name == name] for s in steps
    }
    if not any(found.values()):
        names = {site.name for s in steps for site, _ in _numbers(s, "histogram", kind)}
        if names:
            raise ConfigError(unknown_name(f"{kind} site", name, names))
    number = _step_to_read(found, step, steps, kind)
    site, row = found[number][0]
    return Histogram(site, number, bin_edges(row[0], row[1]), row[2:])


def read_histograms(steps: Sequence[Step], kind: Kind, step: int | None) -> Histograms:
    """Read the histograms of all sites of a kind, by default of the last step that has any."""
    found = {s.number: sorted(_numbers(s, "histogram", kind), key=lambda pair: pair[0].order) for s in steps}
    number = _step_to_read(found, step, steps, kind)
    sites, rows = zip(*found[number], strict=True)
    edges = np.stack([bin_edges(row[0], row[1]) for row in rows])
    return Histograms(kind, number, sites, edges, np.stack([row[2:] for row in rows]))


def _numbers(step: Step, quantity: str, kind: Kind) -> Iterator[tuple[Site, NDArray[np.float64]]]:
    for m in step.arrays:
        if m.quantity.name == quantity:
            rows = np.asarray(m.values, dtype=np.float64).reshape(len(m.sites), -1)
            yield from ((site, row) for site, row in zip(m.sites, rows, strict=True) if site.kind == kind)


def _step_to_read(found: Mapping[int, Sized], step: int | None, steps: Sequence[Step], kind: Kind) -> int:
    measured = [number for number, pairs in found.items() if pairs]
    if not measured:
        known = ", ".join(array_names(steps, kind)) or "none"
        raise ConfigError(
            f"no histogram was measured at {kind}s (arrays that were: {known}). "
            'Watch with quantities=[*DEFAULT, "histogram"].'
        )
    if step is None:
        return measured[-1]
    if step not in measured:
        nearest = min(measured, key=lambda number: abs(number - step))
        raise ConfigError(
            f"no histogram was measured at {kind}s at step {step}; the nearest of the {len(measured)} steps with "
            f"histograms is {nearest}. Omit step for the last one."
        )
    return step
