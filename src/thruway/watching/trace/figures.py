"""The figures of a trace: what is drawn, by name, from the numbers of which quantities."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.figures import heat_map, layer_histograms, mean_and_spread, percentile_bands, std_intervals
from thruway.watching.sites import KINDS, Kind, Site
from thruway.watching.trace.missing import measured_at, why_missing
from thruway.watching.trace.selection import Choice, choose
from thruway.watching.trace.steps import Series

if TYPE_CHECKING:
    from thruway.watching.trace.trace import Trace

__all__ = ["FIGURES", "Style", "View", "kind_of", "show", "site_name", "spans_decades", "what_of"]

DECADES = 100.0  # from this ratio of the largest to the smallest on, differences of the small ones need a log scale


@dataclass(frozen=True)
class View:
    """What a figure is asked to show."""

    trace: "Trace"
    what: str
    kind: Kind
    sites: Choice
    step: int | None

    def names(self, sites: tuple[Site, ...]) -> tuple[list[int], list[str]]:
        """Places and names of the sites that are wanted."""
        chosen = choose(sites, self.sites, (site for site in self.trace.sites if site.kind == "output"))
        return chosen, [site_name(sites[place], self.trace) for place in chosen]

    def tables(self, *quantities: str) -> tuple[list[NDArray[np.float64]], NDArray[np.int64], list[str]]:
        """(sites, steps) of each quantity, the steps, and the sites' names."""
        found = [self.trace.series(quantity, self.kind) for quantity in quantities]
        shared = set(found[0].sites).intersection(*(each.sites for each in found))
        common = tuple(site for site in found[0].sites if site in shared)
        steps = functools.reduce(np.intersect1d, [each.steps for each in found])
        chosen, names = self.names(common)
        wanted = [common[place] for place in chosen]
        return [_at(each, wanted, steps) for each in found], steps, names

    def has(self, quantity: str) -> bool:
        """It was measured at sites of this kind."""
        return quantity in self.trace.quantities(self.kind)


def _heat_map(view: View) -> go.Figure:
    (values,), steps, names = view.tables(view.what)
    unit = _unit(view)
    finite = values[np.isfinite(values)]
    has_signs = bool(finite.size and finite.min() < 0 < finite.max())
    log = not unit.startswith("share") and spans_decades(finite)
    what = what_of(view.what, view.kind)
    return heat_map(values, steps, names, quantity=what, unit=unit, log=log, diverging=has_signs)


def _mean_and_spread(view: View) -> go.Figure:
    (mean, std), steps, names = view.tables("mean", "std")
    return mean_and_spread(mean, std, steps, names, quantity=SINGULAR[view.kind])


def _percentile_bands(view: View) -> go.Figure:
    quantities = ["p2", "p50", "p98", *(["std"] if view.has("std") else [])]
    (low, mid, high, *spread), steps, names = view.tables(*quantities)
    of = SINGULAR[view.kind]
    return percentile_bands(low, mid, high, steps, names, spread=spread[0] if spread else None, quantity=of)


def _std_intervals(view: View) -> go.Figure:
    (std,), steps, names = view.tables("std")
    return std_intervals(std, steps, names, quantity=SINGULAR[view.kind])


def _histograms(view: View) -> go.Figure:
    found = view.trace.histograms(view.kind, view.step)
    chosen, names = view.names(found.sites)
    edges, counts = found.edges[chosen], found.counts[chosen]
    # Nothing finite: no edges and no counts, hence a name without a line.
    edges = np.where(np.isfinite(edges).all(1, keepdims=True), edges, np.arange(edges.shape[1]))
    # Layers whose values lie in ranges of unlike width have densities as unlike.
    log = spans_decades((edges[:, -1] - edges[:, 0])[counts.any(1)])
    return layer_histograms(edges, counts, names, quantity=f"{SINGULAR[view.kind]} at step {found.step:,}", log=log)


@dataclass(frozen=True)
class Style:
    """How to draw, and from which quantities: any single one where none is named."""

    draw: Callable[[View], go.Figure]
    needs: tuple[str, ...] = ()
    draws_few: bool = True  # a dozen layers, among which only what is alike compares


FIGURES: dict[str, Style] = {
    "heat_map": Style(_heat_map, draws_few=False),
    "mean_and_spread": Style(_mean_and_spread, ("mean", "std")),
    "percentile_bands": Style(_percentile_bands, ("p2", "p50", "p98")),
    "std_intervals": Style(_std_intervals, ("std",)),
    "histograms": Style(_histograms, ("histogram",)),
}

SINGULAR: dict[Kind, str] = {kind: kind.replace("_", " ") for kind in KINDS}


def show(trace: "Trace", what: str, kind: Kind | None, style: str | None, sites: Choice, step: int | None) -> go.Figure:
    """The figure that `Trace.figure` promises."""
    name = style if style is not None else "histograms" if what == "histogram" else "heat_map"
    if name not in FIGURES:
        raise ConfigError(unknown_name("style of figure", name, FIGURES))
    chosen = FIGURES[name]
    if chosen.needs and what not in chosen.needs:
        raise ConfigError(
            f"{name} is drawn from {', '.join(chosen.needs)}, not from {what!r}. "
            f"Ask for {chosen.needs[0]!r}, or leave style out for a map of {what!r}."
        )
    if step is not None and name != "histograms":
        raise ConfigError(f"step={step} is for histograms; {name} shows every step. Leave it out.")
    kind = kind_of(trace, what, kind)
    lacking = [each for each in chosen.needs if each not in measured_at(trace, kind)]
    if lacking:
        raise ConfigError(
            f"{name} needs {', '.join(chosen.needs)}; at {SINGULAR[kind]}s {', '.join(lacking)} was not measured. "
            f"Watch with quantities=[*DEFAULT, {', '.join(map(repr, lacking))}]."
        )
    if sites is None and chosen.draws_few and any(site.activation for site in trace.sites):
        sites = "activations" if kind in ("output", "gradient") else None
    return chosen.draw(View(trace, what, kind, sites, step))


def kind_of(trace: "Trace", what: str, kind: Kind | None) -> Kind:
    """The kind of sites to show: the one asked for, or the first that has the quantity.

    Raises:
        ConfigError: if it was not measured there, or nowhere.
    """
    there = [each for each in KINDS if what in measured_at(trace, each)]
    if kind is None and there:
        return there[0]
    if kind in there:
        return kind
    raise ConfigError(why_missing(trace, what, kind))


def spans_decades(values: NDArray[np.float64]) -> bool:
    """Values of 0 and above, of which the smallest would not be seen beside the largest."""
    positive = values[values > 0]
    return bool(positive.size and values.min() >= 0 and positive.max() >= DECADES * positive.min())


def what_of(quantity: str, kind: Kind) -> str:
    """A quantity in words.

    >>> what_of("std", "parameter_gradient"), what_of("branch_ratio", "output"), what_of("update_ratio", "update")
    ('parameter gradient std', 'branch ratio', 'update ratio')
    """
    words = quantity.replace("_", " ")
    is_clear = kind == "output" or words.startswith(SINGULAR[kind])
    return words if is_clear else f"{SINGULAR[kind]} {words}"


def site_name(site: Site, trace: "Trace") -> str:
    """The site's name; the model itself has none and goes by its class."""
    return site.name or trace.model


def _unit(view: View) -> str:
    known = "share of values" if view.what == "saturation" else ""
    return view.trace.units.get(view.what, known)


def _at(series: Series, sites: Sequence[Site], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    place = {site: row for row, site in enumerate(series.sites)}
    return series.values[[place[site] for site in sites]][:, np.isin(series.steps, steps)]
