"""Numbers of one sampled step: their layout, the first non-finite one, and conversion to table rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from thruway.runs import Table
from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import Kind, Site

__all__ = [
    "BadValue",
    "Layout",
    "LayoutKey",
    "Row",
    "SiteLog",
    "Step",
    "as_table",
    "first_bad_value",
    "layout_key",
    "log_rows",
    "pack",
]

LayoutKey = tuple[tuple[str, tuple[Site, ...]], ...]
Row = tuple[int, Kind, str, tuple[Site, ...], NDArray[np.floating]]  # step, kind, quantity, sites, one number per site


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions of the numbers of a step in one vector, computed once for all steps with the same layout.

    `places` maps a kind of site and a quantity to the sites, in the order of the network, and to their positions.
    """

    size: int
    places: Mapping[tuple[Kind, str], tuple[tuple[Site, ...], NDArray[np.int64]]]
    has_parts: bool  # a site was measured more than once in the step

    @classmethod
    def of(cls, key: LayoutKey) -> "Layout":
        """Return the layout of numbers packed in the order of the key."""
        found: dict[tuple[Kind, str], list[tuple[int, Site, int]]] = {}
        position = 0
        for name, sites in key:
            for site in sites:
                found.setdefault((site.kind, name), []).append((site.order, site, position))
                position += 1
        places = {}
        for which, entries in found.items():
            entries.sort(key=lambda entry: entry[0])
            places[which] = tuple(s for _, s, _ in entries), np.array([p for _, _, p in entries], dtype=np.int64)
        return cls(position, places, any(len(set(sites)) < len(sites) for sites, _ in places.values()))

    def positions(self, kind: Kind, quantity: str) -> dict[str, int]:
        """Return the position of the number of each site, by name of the site."""
        sites, positions = self.places.get((kind, quantity), ((), np.empty(0, dtype=np.int64)))
        return {site.name: int(p) for site, p in zip(sites, positions, strict=True)}


def layout_key(measured: Sequence[Measured]) -> LayoutKey:
    """Return the key of the layout, which is equal for steps with the same layout."""
    return tuple((m.quantity.name, m.sites) for m in measured)


def pack(measured: Sequence[Measured]) -> NDArray[np.floating]:
    """Concatenate all numbers into one vector of the narrowest sufficient dtype."""
    return np.concatenate([m.values for m in measured]) if measured else np.empty(0, dtype=np.float32)


@dataclass(slots=True)
class Step:
    """The numbers of one sampled step."""

    number: int
    layout: Layout
    numbers: NDArray[Any]
    arrays: list[Measured]  # quantities of many numbers per site


@dataclass(frozen=True)
class BadValue:
    """The site of the first NaN or infinity: the first one, in the order of the passes, of the earliest such step."""

    step: int
    site: Site
    nan: int
    inf: int


def first_bad_value(step: int, layout: Layout, numbers: NDArray[Any]) -> BadValue | None:
    """Return the first site with a NaN or an infinity in a step, or None if all values are finite."""
    counts: dict[Site, dict[str, int]] = {}
    for (_, quantity), (sites, places) in layout.places.items():
        if quantity in ("nan", "inf"):
            found = numbers[places]
            if found.any():
                for site, number in zip(sites, found.tolist(), strict=True):
                    if number:
                        counts.setdefault(site, {})[quantity] = int(number)
    if not counts:
        return None
    first = min(counts, key=_order_of_events)
    return BadValue(step, first, counts[first].get("nan", 0), counts[first].get("inf", 0))


# The order within a step.
_TURNS: tuple[Kind, ...] = ("parameter", "input", "output", "gradient", "parameter_gradient", "update", "step")


def _order_of_events(site: Site) -> tuple[int, int]:
    """Return a sort key: the order within a step, in which the backward pass reaches the last site first."""
    turn = _TURNS.index(site.kind)
    return turn, -site.order if site.kind == "gradient" else site.order


class SiteLog(Protocol):
    """An object to which a trace writes its numbers during training, such as a Run."""

    def log_sites(self, step: int, quantity: str, sites: Sequence[str], values: Any) -> None:
        """Write one quantity at many sites of one step."""


def log_rows(run: SiteLog, rows: Iterable[Row]) -> None:
    """Write rows to a run, with quantities named "kind.quantity", because a run has no column for the kind."""
    for step, kind, quantity, sites, numbers in rows:
        run.log_sites(step, f"{kind}.{quantity}", [site.name for site in sites], numbers)


def as_table(rows: Iterable[Row]) -> Table:
    """Return a table with one line per number: step, kind, site, quantity, value."""
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
