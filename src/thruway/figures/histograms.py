"""Histograms of the values of each layer at one step."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError, ShapeError
from thruway.figures.inputs import FloatArray, Values, as_array, as_layer_table, layer_names
from thruway.figures.layer_lines import choose_layers
from thruway.figures.lines import line
from thruway.figures.panels import (
    add_note,
    axes_of,
    axis_title,
    empty_figure,
    fit_legend,
    label,
    log_axis,
    small_multiples,
)
from thruway.figures.scales import layer_color

__all__ = ["densities", "layer_histograms"]


def layer_histograms(
    edges: Values | Mapping[str, Values],
    counts: Values | Mapping[str, Values],
    layers: Sequence[object] | None = None,
    *,
    quantity: str,
    unit: str = "",
    log: bool = False,
) -> go.Figure:
    """Plot overlaid normalised histograms of all layers, with one panel per initialiser or other condition.

    Each line has an area of 1, so that layers of any width can be compared. If there are more than twelve
    layers, twelve of them are drawn; a note in the figure says so.

    Args:
        edges: edges of the bins, in `unit`: (bins + 1,) for all layers, or (layers, bins + 1); for several
            panels either one such array or a mapping from the panels' names.
        counts: (layers, bins), 0 or more; or a mapping from the name of a panel, such as an initialiser, to such a
            table. A layer without counts has no line.
        layers: names of the layers, from the first to the last. If None, numbers from 1.
        quantity: name of the quantity, such as "activation".
        log: If True, use a logarithmic density axis; empty bins are then gaps.
    Raises:
        ShapeError: if edges, counts and layers have inconsistent shapes.
        ConfigError: if counts are negative, edges do not increase, or a panel has no edges.
    Source:
        Glorot & Bengio 2010, figs. 4 and 6 to 8.

    >>> figure = layer_histograms([0, 1, 3], {"standard": [[1, 1]], "normalized": [[3, 1]]}, quantity="activation")
    >>> [trace.y.tolist() for trace in figure.data]
    [[0.5, 0.25], [0.75, 0.125]]
    """
    tables = dict(counts) if isinstance(counts, Mapping) else {"": counts}
    if not tables:
        raise ConfigError("counts is an empty mapping. Pass a table, or a mapping from names to tables.")
    if isinstance(edges, Mapping) and set(edges) != set(tables):
        raise ConfigError(
            f"got edges for {sorted(edges)} and counts for {sorted(tables)}. Pass both for the same panels."
        )
    panels = {
        name: densities(
            edges[name] if isinstance(edges, Mapping) else edges, each, f"counts of {name!r}" if name else "counts"
        )
        for name, each in tables.items()
    }
    sizes = {name: len(density) for name, (_, density) in panels.items()}
    count = next(iter(sizes.values()))
    if set(sizes.values()) != {count}:
        raise ShapeError(f"the panels have different numbers of layers: {sizes}. Pass the same layers for each.")
    names = layer_names(layers, count, "layer ")
    if not count:
        return empty_figure("Nothing to draw: no layer has values yet.")
    rows, notes = choose_layers(count)
    if log:
        panels = {
            name: (middles, np.where(density > 0, density, np.nan)) for name, (middles, density) in panels.items()
        }
    y_name = axis_title("density", f"share of values / {unit}" if unit else "share of values per unit")
    drawn = np.concatenate([density[rows].ravel() for _, density in panels.values()])
    y_axis = log_axis(y_name, drawn.tolist()) if log else {"title": {"text": y_name}, "rangemode": "tozero"}
    x_axis = {"title": {"text": axis_title(quantity, unit)}}
    figure = small_multiples(list(panels), [x_axis] * len(panels), y_axis)
    for number, (middles, density) in enumerate(panels.values()):
        x, y = axes_of(number)
        for row in rows:
            trace = line(
                middles[row],
                density[row],
                title=label(names[row]),
                x_name="at",
                color=layer_color(row, count),
                width=1.8,
            )
            figure.add_trace(
                trace.update(
                    name=label(names[row]), legendgroup=f"layer {row}", showlegend=number == 0, xaxis=x, yaxis=y
                )
            )
    return add_note(fit_legend(figure), notes)


def densities(edges: Values, counts: Values, name: str) -> tuple[FloatArray, FloatArray]:
    """Return the centres of the bins and their densities (counts / sum of counts / bin width), each (layers, bins).

    >>> densities([0, 1, 3], [[1, 1], [0, 0]], "counts")[1]
    array([[0.5 , 0.25],
           [ nan,  nan]])
    """
    table, borders = (
        as_layer_table(counts, name, "bins").astype(np.float64),
        as_array(edges, "edges").astype(np.float64),
    )
    layers, bins = table.shape
    if borders.shape not in ((bins + 1,), (layers, bins + 1)):
        raise ShapeError(
            f"edges has shape {borders.shape} and {name} {table.shape}. Pass one edge more than bins: "
            f"edges of shape ({bins + 1},) or ({layers}, {bins + 1})."
        )
    widths = np.diff(np.broadcast_to(borders, (layers, bins + 1)))
    # Written so that NaN raises too.
    if not (widths > 0).all():
        raise ConfigError("edges must be finite and strictly increasing. Sort them and remove duplicates.")
    if (table < 0).any():
        raise ConfigError(f"{name} must be 0 or more, got {np.nanmin(table):.3g}.")
    total = np.nansum(table, axis=1, keepdims=True)
    density = np.where(total > 0, table / np.where(total > 0, total, 1), np.nan) / widths
    return np.broadcast_to(borders, (layers, bins + 1))[:, :-1] + widths / 2, density
