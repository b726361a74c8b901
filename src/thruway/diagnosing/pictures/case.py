"""The finding to draw and the trace that it was found in, and the picture that comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.names import owner_of
from thruway.diagnosing.reading import Reading, Values
from thruway.watching.sites import Kind, Site

__all__ = ["AFTER", "BEFORE", "EXPECTED", "SICK", "Case", "Draw", "Picture", "Source", "halved", "last_known"]

# Colours with a contrast of at least 3 on the light and the dark page, as in figures.theme.
SICK, BEFORE, AFTER, EXPECTED = "#d9622b", "#4f62dc", "#a855a8", "#10a37e"


@dataclass(frozen=True)
class Picture:
    """One figure of a card.

    Attributes:
        name: short name, unique in the card: "map", "depth", "loss" ...
        title: heading.
        caption: explanation in one or two sentences.
        figure: the figure; its data are the numbers of the trace.
        is_wide: True if it needs the whole width of the card.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    is_wide: bool = False


@dataclass(frozen=True)
class Source:
    """A quantity to draw: how it is read, and its name, unit and scale."""

    read: Callable[[Reading], Values | None]
    quantity: str
    unit: str = ""
    log: bool = False
    is_share: bool = False  # the scale is then linear
    note: str = ""  # added to the caption

    @classmethod
    def of(cls, quantity: str, kind: Kind = "output", words: str = "", unit: str = "", **scale: Any) -> "Source":
        """Return the source of a quantity of the trace; `scale` has further fields."""
        fields = {"is_share": unit.startswith("share"), **scale}
        return cls(lambda reading: reading.values(quantity, kind), words or quantity.replace("_", " "), unit, **fields)


class Case:
    """A finding with the reading of its trace: places of its steps and sites."""

    def __init__(self, reading: Reading, finding: Finding) -> None:
        self.reading = reading
        self.finding = finding

    @property
    def is_healthy(self) -> bool:
        """True if there is no finding: nothing is marked."""
        return not self.finding.rule

    @property
    def color(self) -> str:
        """The colour of measured numbers."""
        return BEFORE if self.is_healthy else SICK

    @cached_property
    def column(self) -> int:
        """The place of the first step with the symptom among the recorded steps."""
        return self.column_of(self.finding.onset)

    def column_of(self, step: int) -> int:
        """Return the place of a step among the recorded steps, or of the last one before it."""
        place = int(np.searchsorted(self.reading.steps, step, side="right")) - 1
        return min(max(place, 0), len(self.reading.steps) - 1)

    @cached_property
    def model(self) -> str:
        """The name of the model, for its own output, whose site has an empty name."""
        return self.reading.trace.model

    def names(self, sites: Sequence[Site]) -> list[str]:
        """Return a unique name for each site."""
        known = {site.name for site in sites}
        own = self.model if self.model not in known else f"{self.model} (the model)"
        return [site.name or own for site in sites]

    def affected(self, sites: Sequence[Site]) -> list[int]:
        """Return the rows of the sites that the finding names: directly, by a module, or in its evidence."""
        names = set(self.finding.sites) | set(self.finding.span or ())
        rows = {row for row, site in enumerate(sites) if site.name in names}
        if not rows:
            owners = {owner_of(name) for name in names} | names
            after = {each.activation_site for each in self.reading.layers if each.name in names}
            rows = {
                row
                for row, site in enumerate(sites)
                if _path(site) in owners or owner_of(site.name) in names or site.name in after
            }
        if not rows:
            named = {each.site for each in self.finding.evidence if each.site}
            rows = {row for row, site in enumerate(sites) if site.name in named}
        return sorted(rows)

    def framed(self, sites: Sequence[Site]) -> list[int]:
        """Return the affected rows with those between the ends of the finding's span: one frame holds them all."""
        span = self.finding.span
        ends = [row for row, site in enumerate(sites) if span is not None and site.name in span]
        return list(range(min(ends), max(ends) + 1)) if len(ends) > 1 else self.affected(sites)


Draw = Callable[[Case], Picture | None]


def _path(site: Site) -> str:
    return site.name.split("#")[0]


def last_known(values: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """Return the numbers of a column; where quantities are not measured at every step, those of the nearest column.

    Columns before `column` are preferred, so that a number from after the onset does not stand for one before it.

    Args:
        values: (sites, steps), NaN where not measured.

    >>> last_known(np.array([[1.0, np.nan, np.nan], [2.0, np.nan, 3.0]]), 1)
    array([1., 2.])
    """
    has = np.flatnonzero(~np.isnan(values).all(0))
    if not len(has):
        return values[:, column]
    before = has[has <= column]
    return values[:, before[-1] if len(before) else has[0]]


def halved(figure: go.Figure, **wide: Any) -> go.Figure:
    """Arrange a figure for half of the width of a page: as on a narrow screen, with room for Plotly's buttons.

    Args:
        figure: a figure made by `thruway.figures`.
        wide: further values of the layout, by path with "__" for ".", for all but narrow screens.
    """
    meta = dict(figure.layout.meta)
    more = {path.replace("__", "."): value for path, value in wide.items()}
    meta["wide"] = {**meta["narrow"], "margin.r": 36, **more}
    figure.layout.meta = meta
    for path, value in meta["wide"].items():
        figure.layout[path] = value
    return figure
