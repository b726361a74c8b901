"""Reading of a trace from a run folder written by `watch(run=...)`."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.errors import ConfigError
from thruway.runs import RunReader
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.table import QUANTITIES, Quantity
from thruway.watching.sites import KINDS, Registry, Site
from thruway.watching.trace.trace import Trace

__all__ = ["trace_of"]


def trace_of(run: RunReader) -> Trace:
    """Read the trace of a watched run, which may be finished, killed or still in progress.

    A run stores only names and numbers: it does not record which sites are activations or gates, and has no histograms.
    It contains every sampled step, including those dropped from memory.

    Args:
        run: an open run, from runs.open_run.
    Raises:
        ConfigError: if the run contains no numbers written by `watch`.
        RunError: if the numbers are damaged.
    """
    table = run.table(member=0)
    quantity_of, quantities = _numbered(table["quantity"])
    names_of, names = _numbered(table["site"])
    watched = [name.partition(".")[::2] for name in quantities]
    is_ours = np.array([kind in KINDS and bool(name) for kind, name in watched], dtype=bool)
    rows = np.flatnonzero(is_ours[quantity_of]) if len(watched) else np.empty(0, dtype=np.intp)
    if not len(rows):
        raise ConfigError(
            f"run {run.name!r} contains no numbers written by watch. Pass it to watch(model, run=...) during training."
        )
    steps, values = table["step"][rows], table["value"][rows]
    quantity_of, names_of = quantity_of[rows], names_of[rows]
    # A resumed run has its steps out of order; within a step, numbers keep the order in which they were logged.
    order = np.lexsort((np.arange(len(rows)), quantity_of, steps))
    starts = np.flatnonzero((np.diff(steps[order]) != 0) | (np.diff(quantity_of[order]) != 0)) + 1
    found: dict[int, list[tuple[int, tuple[int, ...], NDArray[Any]]]] = {}
    known: dict[tuple[int, ...], tuple[int, ...]] = {}  # one tuple for all steps of a layout
    for part in np.split(order, starts):
        sites = tuple(names_of[part].tolist())
        entry = int(quantity_of[part[0]]), known.setdefault(sites, sites), values[part]
        found.setdefault(int(steps[part[0]]), []).append(entry)
    registry = Registry()
    site_of = _enter_sites(
        registry, {(q, sites) for entries in found.values() for q, sites, _ in entries}, watched, names
    )
    trace = Trace(run.name, registry, None, sys.maxsize)
    site_tuples: dict[tuple[str, tuple[int, ...]], tuple[Site, ...]] = {}
    for step, entries in found.items():
        measured = []
        for q, sites, numbers in entries:
            kind, name = watched[q]
            at = site_tuples.get((kind, sites))
            if at is None:
                at = site_tuples[kind, sites] = tuple(site_of[kind, site] for site in sites)
            measured.append(Measured(_quantity(name), at, 1, numbers))
        trace.add(step, measured)
    return trace


def _numbered(column: NDArray[Any]) -> tuple[NDArray[np.intp], list[str]]:
    """Number the strings of a column in order of first appearance; return the numbers and the strings."""
    number_of: dict[str, int] = {}
    numbers = np.array([number_of.setdefault(text, len(number_of)) for text in column.tolist()], dtype=np.intp)
    return numbers, list(number_of)


def _enter_sites(
    registry: Registry, logged: Iterable[tuple[int, tuple[int, ...]]], watched: Sequence[Any], names: Sequence[str]
) -> dict[tuple[str, int], Site]:
    """Add the sites of each kind in network order, as far as it follows from the order within each logged row."""
    rows: dict[str, set[tuple[int, ...]]] = {kind: set() for kind in KINDS}
    for q, sites in logged:
        rows[watched[q][0]].add(sites)
    site_of: dict[tuple[str, int], Site] = {}
    for kind in KINDS:
        ordered: list[int] = []
        for sites in sorted(rows[kind], key=lambda row: (-len(row), row)):
            if set(sites) <= set(ordered):
                continue
            place = 0
            for site in sites:
                if site in ordered:
                    place = ordered.index(site)
                else:
                    ordered.insert(place, site)
                place += 1
        for site in ordered:
            entered = Site(names[site], kind, "", order=len(registry.sites))
            site_of[kind, site] = registry.sites[entered.key] = entered
    return site_of


def _quantity(name: str) -> Quantity:
    known = QUANTITIES.get(name)
    return known if known is not None else Quantity(name, "", _not_measured)


def _not_measured(_rows: object) -> Any:
    raise ConfigError(
        "this quantity was read from a run, which contains its numbers but not the function that measures it."
    )
