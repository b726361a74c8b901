"""Figs. 6 to 9 of the paper from the run folder, and what the equations predict beside what was measured."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thruway.experiments.glorot2010.initialization import SCHEMES, Config
from thruway.experiments.glorot2010.initialization_rows import read_histograms, read_spreads
from thruway.experiments.glorot2010.initialization_start import SPREADS
from thruway.figures import layer_histograms, run_curves, std_intervals
from thruway.runs import RunReader

__all__ = ["by_layer", "histogram_figure", "training_figure", "variance_figure"]

Rows = Sequence[Mapping[str, Any]]

_MOMENTS = 50


def histogram_figure(reader: RunReader, config: Config, what: str) -> go.Figure:
    """The histogram of every hidden layer at the start, the two starts side by side; `what` is a key of SPREADS.

    Each panel is in units of its widest layer, or one axis could not show both.
    """
    edges, counts = {}, {}
    for scheme, (borders, found) in read_histograms(reader, config, what).items():
        middles = (borders[:, :-1] + borders[:, 1:]) / 2
        widths = np.sqrt((found * middles**2).sum(axis=1) / found.sum(axis=1))
        edges[scheme], counts[scheme] = borders / widths.max(), found
    if not edges:
        edges, counts = {"": np.zeros((0, 2))}, {"": np.zeros((0, 1))}
    return layer_histograms(edges, counts, quantity=SPREADS[what].name, unit="widest std", log=True)


def training_figure(reader: RunReader, config: Config) -> go.Figure:
    """One standard deviation of the weight gradients to either side, as a multiple of the mean over layers.

    Geometric means over seeds, and over fiftieths of training: a batch moves all layers alike, and far.
    """
    found = read_spreads(reader, config)
    steps = np.arange(0, config.updates, config.stride)
    parts = np.array_split(np.arange(len(steps)), min(_MOMENTS, len(steps)))
    tables = {}
    for scheme in SCHEMES:
        table = np.full((config.depth, len(parts)), np.nan)
        if scheme in found:
            logs = np.log(found[scheme][1]).mean(axis=0)
            table = np.stack([logs[:, part].mean(axis=1) for part in parts], axis=1)
            table = np.exp(table - table.mean(axis=0))
        tables[str(scheme)] = table
    names = [f"layer {layer}" for layer in range(1, config.depth + 1)]
    middles = [steps[part].mean() for part in parts]
    return std_intervals(
        tables, middles, names, quantity="dC/dW", unit="times the mean", x_name="training time (updates)"
    )


def variance_figure(rows: Rows, quantity: str, predicted: str, y_name: str) -> go.Figure:
    """A mean square in every hidden layer of the tanh nets, with its range over seeds, beside the prediction."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    bands: dict[str, tuple[list[int], list[float], list[float]]] = {}
    references = []
    for scheme in SCHEMES:
        measured, expected = by_layer(rows, scheme, quantity), by_layer(rows, scheme, predicted)
        if not measured:
            continue
        layers = list(measured)
        curves[scheme] = (layers, [fmean(values) for values in measured.values()])
        bands[scheme] = (layers, [min(each) for each in measured.values()], [max(each) for each in measured.values()])
        references.append(f"{scheme}, predicted")
        curves[references[-1]] = (layers, [fmean(values) for values in expected.values()])
    return run_curves(
        curves, bands=bands, references=references, x_name="hidden layer, from the input", y_name=y_name, log=True
    )


def by_layer(
    rows: Rows, scheme: str, quantity: str, shape: str = "equal", activation: str = "tanh"
) -> dict[int, list[float]]:
    """Layer -> the quantity for every seed."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if (row["scheme"], row["shape"], row["activation"]) == (scheme, shape, activation):
            found.setdefault(row["layer"], []).append(row[quantity])
    return dict(sorted(found.items()))
