"""What a trace keeps of a sampled step, and where the first number that is none was seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.layout import Layout

__all__ = ["BadValue", "Series", "Step", "first_bad_of"]


@dataclass(frozen=True)
class BadValue:
    """Where NaN or infinity was seen first: in the earliest step, whichever came first in the passes."""

    step: int
    site: Site
    nan: int
    inf: int


@dataclass(frozen=True)
class Series:
    """One quantity: `values` (sites, steps) at the steps that it was taken at, NaN at sites that had none then."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The sites' names, in the order of the forward pass."""
        return [site.name for site in self.sites]


@dataclass(slots=True)
class Step:
    """The numbers of one sampled step."""

    number: int
    layout: Layout
    numbers: NDArray[Any]
    arrays: list[Measured]  # quantities of many numbers per site


def first_bad_of(step: int, layout: Layout, numbers: NDArray[Any]) -> BadValue | None:
    """The site of a step where NaN or infinity came up first, if one did."""
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
    first = min(counts, key=_when)
    return BadValue(step, first, counts[first].get("nan", 0), counts[first].get("inf", 0))


def _when(site: Site) -> tuple[int, int]:
    """The order of events in a step; the backward pass meets the last site first."""
    turn = {"parameter": 0, "output": 1, "gradient": 2, "parameter_gradient": 3, "update": 4}[site.kind]
    return turn, -site.order if site.kind == "gradient" else site.order
