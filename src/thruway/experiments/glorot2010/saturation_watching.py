"""What is watched in the hidden layers, and how it gets from the watcher into the run folder."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from thruway.experiments.glorot2010.saturation import Case
from thruway.runs import Run
from thruway.watching import QUANTITIES, Quantity, Rows, Trace

__all__ = ["BINS", "KNEES", "MIDDLE", "WATCHED", "log_histograms", "log_layers"]

KNEES = (0.6, 0.8)
"""Where |z| bends but is not flat yet: what the paper sees softsign's values do in fig. 4."""
MIDDLE = 0.1
"""Up to this |z| counts as 0."""

_BOUNDED = frozenset(("sigmoid", "tanh", "softsign"))
_PAPER = "Glorot & Bengio 2010, fig. 4"


def _share_in_knees(rows: Rows) -> Tensor:
    low, high = KNEES
    size = rows.flat.abs()
    return ((size >= low) & (size <= high)).to(size.dtype).mean(1)


def _share_in_middle(rows: Rows) -> Tensor:
    return (rows.flat.abs() <= MIDDLE).to(rows.flat.dtype).mean(1)


def _of_layers(name: str) -> Quantity:
    """A row of the table, for hidden layers alone: the study looks at nothing else, and sorting weights is slow."""
    return replace(QUANTITIES[name], kinds=("output",), activations=_BOUNDED, stride=1)


# One number per layer and look.
_NUMBERS: tuple[Quantity, ...] = (
    *map(_of_layers, ("mean", "std", "p2", "p50", "p98", "saturation_low", "saturation_high")),
    Quantity("knees", "share of values", _share_in_knees, ("output",), _BOUNDED, source=_PAPER),
    Quantity("middle", "share of values", _share_in_middle, ("output",), _BOUNDED, source=_PAPER),
)

WATCHED: tuple[Quantity, ...] = (*_NUMBERS, _of_layers("histogram"))
"""What `watch` is asked for."""

BINS = 64
"""Of a histogram, between the smallest and the largest value of its layer."""


def log_layers(run: Run, case: Case, seen: Trace, since: int) -> None:
    """Write what was seen of the hidden layers at the steps after `since`."""
    for quantity in _NUMBERS:
        series = seen.series(quantity.name)
        layers = [row for row, site in enumerate(series.sites) if site.activation == case.net.activation]
        sites = [case.site(layer) for layer in range(1, len(layers) + 1)]
        for column in np.flatnonzero(series.steps > since):
            values = series.values[layers, column].tolist()
            run.log_sites(int(series.steps[column]), quantity.name, sites, values, case.member)


def log_histograms(run: Run, case: Case, seen: Trace) -> None:
    """Write how the values of each hidden layer were spread when last seen: the edges, and the share in each bin."""
    layers = [site.name for site in seen.sites if site.activation == case.net.activation]
    found = [seen.histogram(name) for name in layers]
    sites = [case.site(layer) for layer in range(1, len(layers) + 1)]
    step = found[0].step
    run.log_sites(step, "histogram_low", sites, [float(each.edges[0]) for each in found], case.member)
    run.log_sites(step, "histogram_high", sites, [float(each.edges[-1]) for each in found], case.member)
    for number in range(BINS):
        shares = [float(each.counts[number] / each.counts.sum()) for each in found]
        run.log_sites(step, f"histogram_{number:02}", sites, shares, case.member)
