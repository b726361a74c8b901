"""Numbers by site as rows: one long table, or what a run is told."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thruway.runs import Table
from thruway.watching.sites import Kind, Site

__all__ = ["Row", "SiteLog", "as_table", "log_rows"]

Row = tuple[
    int, Kind, str, tuple[Site, ...], NDArray[np.floating]
]  # step, kind, quantity, its sites, a number for each


class SiteLog(Protocol):
    """Where a trace writes as it grows; a Run is one."""

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Any) -> None:
        """One quantity at many sites of one step."""


def log_rows(run: SiteLog, rows: Iterable[Row]) -> None:
    """Tell a run; the kind of the sites has no column of its own there, and stands before the quantity."""
    for step, kind, quantity, sites, numbers in rows:
        run.log_sites(step, f"{kind}.{quantity}", [site.name for site in sites], numbers)


def as_table(rows: Iterable[Row]) -> Table:
    """One line per number: step, kind, site, quantity, value."""
    steps: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    values: list[NDArray[np.floating]] = [np.empty(0, dtype=np.float32)]
    kinds: list[str] = []
    names: list[str] = []
    quantities: list[str] = []
    for step, kind, quantity, sites, numbers in rows:
        steps.append(np.full(len(sites), step, dtype=np.int64))
        values.append(numbers)
        kinds += [kind] * len(sites)
        names += [site.name for site in sites]
        quantities += [quantity] * len(sites)
    return Table(
        {
            "step": np.concatenate(steps),
            "kind": np.array(kinds, dtype=object),
            "site": np.array(names, dtype=object),
            "quantity": np.array(quantities, dtype=object),
            "value": np.concatenate(values),
        }
    )
