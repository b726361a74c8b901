"""Figures of a trace: the table of styles, each with the quantities that it needs."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from thruway.errors import ConfigError, unknown_name
from thruway.figures import heat_map, layer_histograms, mean_and_spread, percentile_bands, std_intervals
from thruway.watching.sites import KINDS, Kind, Site
from thruway.watching.trace.derived import DERIVED
from thruway.watching.trace.missing import find_kind, measured_at
from thruway.watching.trace.selection import SiteSelection, select_sites
from thruway.watching.trace.series import ReadableTrace, Series

__all__ = ["FIGURES", "Style", "View", "draw_figure", "quantity_label", "site_name", "spans_decades"]

DECADES = 100.0  # from this ratio of the largest to the smallest value on, the scale is logarithmic


@dataclass(frozen=True)
class View:
    """The arguments of a figure."""

    trace: ReadableTrace
    quantity: str
    kind: Kind
    sites: SiteSelection
    step: int | None

    def names(self, sites: tuple[Site, ...]) -> tuple[list[int], list[str]]:
        """Return the indices and names of the selected sites."""
        chosen = select_sites(sites, self.sites, (site for site in self.trace.sites if site.kind == "output"))
        return chosen, [site_name(sites[place], self.trace) for place in chosen]

    def tables(self, *quantities: str) -> tuple[list[NDArray[np.float64]], NDArray[np.int64], list[str]]:
        """Return (sites, steps) of each quantity, the steps, and the names of the sites that have them all."""
        found = [self.trace.series(quantity, self.kind) for quantity in quantities]
        shared = set(found[0].sites).intersection(*(each.sites for each in found))
        common = tuple(site for site in found[0].sites if site in shared)
        steps = functools.reduce(np.intersect1d, [each.steps for each in found])
        chosen, names = self.names(common)
        wanted = [common[place] for place in chosen]
        return [_at(each, wanted, steps) for each in found], steps, names

    def has(self, quantity: str) -> bool:
        """Return True if a quantity was measured at sites of this kind."""
        return quantity in self.trace.quantities(self.kind)


def _heat_map(view: View) -> go.Figure:
    (values,), steps, names = view.tables(view.quantity)
    unit = _unit(view)
    finite = values[np.isfinite(values)]
    has_signs = bool(finite.size and finite.min() < 0 < finite.max())
    log = not unit.startswith("share") and spans_decades(finite)
    label = quantity_label(view.quantity, view.kind)
    return heat_map(values, steps, names, quantity=label, unit=unit, log=log, diverging=has_signs)


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
    # A layer without a finite value has no edges and no counts: its name is shown without a line.
    edges = np.where(np.isfinite(edges).all(1, keepdims=True), edges, np.arange(edges.shape[1]))
    # Layers with ranges of very different widths have very different densities.
    log = spans_decades((edges[:, -1] - edges[:, 0])[counts.any(1)])
    return layer_histograms(edges, counts, names, quantity=f"{SINGULAR[view.kind]} at step {found.step:,}", log=log)


@dataclass(frozen=True)
class Style:
    """A style of figure, and the quantities that it needs. If `needs` is empty, it draws any single quantity."""

    draw: Callable[[View], go.Figure]
    needs: tuple[str, ...] = ()
    draws_few: bool = True  # for about a dozen layers: only activations by default


FIGURES: dict[str, Style] = {
    "heat_map": Style(_heat_map, draws_few=False),
    "mean_and_spread": Style(_mean_and_spread, ("mean", "std")),
    "percentile_bands": Style(_percentile_bands, ("p2", "p50", "p98")),
    "std_intervals": Style(_std_intervals, ("std",)),
    "histograms": Style(_histograms, ("histogram",)),
}

SINGULAR: dict[Kind, str] = {kind: kind.replace("_", " ") for kind in KINDS}


def draw_figure(
    trace: ReadableTrace, quantity: str, kind: Kind | None, style: str | None, sites: SiteSelection, step: int | None
) -> go.Figure:
    """Draw a figure; see `Trace.figure`."""
    name = style if style is not None else "histograms" if quantity == "histogram" else "heat_map"
    if name not in FIGURES:
        raise ConfigError(unknown_name("style of figure", name, FIGURES))
    chosen = FIGURES[name]
    if chosen.needs and quantity not in chosen.needs:
        raise ConfigError(
            f"{name} is drawn from {', '.join(chosen.needs)}, not from {quantity!r}. "
            f"Pass {chosen.needs[0]!r}, or omit style for a map of {quantity!r}."
        )
    if step is not None and name != "histograms":
        raise ConfigError(f"step={step} is for histograms; {name} shows every step. Omit it.")
    kind = find_kind(trace, quantity, kind)
    lacking = [each for each in chosen.needs if each not in measured_at(trace, kind)]
    if lacking:
        raise ConfigError(
            f"{name} needs {', '.join(chosen.needs)}; at {SINGULAR[kind]}s {', '.join(lacking)} was not measured. "
            f"Watch with quantities=[*DEFAULT, {', '.join(map(repr, lacking))}]."
        )
    if sites is None and chosen.draws_few and any(site.is_activation for site in trace.sites):
        sites = "activations" if kind in ("output", "gradient") else None
    return chosen.draw(View(trace, quantity, kind, sites, step))


def spans_decades(values: NDArray[np.float64]) -> bool:
    """Return True for non-negative values that need a logarithmic scale."""
    positive = values[values > 0]
    return bool(positive.size and values.min() >= 0 and positive.max() >= DECADES * positive.min())


def quantity_label(quantity: str, kind: Kind) -> str:
    """Return the label of a quantity in a figure.

    >>> quantity_label("std", "parameter_gradient"), quantity_label("update_ratio", "update")
    ('parameter gradient std', 'update ratio')
    """
    words = quantity.replace("_", " ")
    is_clear = kind == "output" or words.startswith(SINGULAR[kind])
    return words if is_clear else f"{SINGULAR[kind]} {words}"


def site_name(site: Site, trace: ReadableTrace) -> str:
    """Return the name of the site, or the name of the class for the model itself."""
    return site.name or trace.model


def _unit(view: View) -> str:
    derived = DERIVED.get(view.quantity)
    return view.trace.units.get(view.quantity, "" if derived is None else derived.unit)


def _at(series: Series, sites: Sequence[Site], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    place = {site: row for row, site in enumerate(series.sites)}
    return series.values[[place[site] for site in sites]][:, np.isin(series.steps, steps)]
