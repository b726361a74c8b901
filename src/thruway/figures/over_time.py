"""Quantities of a few layers over time: percentile bands, mean and spread, intervals of standard deviations."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from thruway.figures.inputs import Values, as_array_like, as_layer_table
from thruway.figures.layer_lines import LayerSeries, draw_layers, edges_as_markers, line_in_band, two_edges
from thruway.figures.panels import axis_title, label, legend_key

__all__ = ["mean_and_spread", "percentile_bands", "std_intervals"]

TIME = "training time (steps)"


def percentile_bands(
    low: Values,
    mid: Values,
    high: Values,
    steps: Values,
    layers: Sequence[object] | None = None,
    *,
    spread: Values | None = None,
    quantity: str,
    unit: str = "",
    title: str = "",
    names: tuple[str, str, str] = ("2nd percentile", "median", "98th percentile"),
    log: bool = False,
    x_name: str = TIME,
) -> go.Figure:
    """Plot percentiles of each layer at every step: markers at the outer percentiles, a line in the middle.

    If there are more than twelve layers, twelve of them are drawn. More than 1,000 steps are grouped: outer percentiles
    are drawn as the extremes of each group, lines as its mean. Notes in the figure say so.

    Args:
        low, mid, high: percentiles, each (layers, steps), in `unit`. NaN is a gap.
        steps: (steps,), increasing.
        layers: names of the layers, from the first to the last. If None, numbers from 1.
        spread: standard deviations, (layers, steps), drawn as dashed lines.
        quantity: name of the quantity, such as "activation".
        names: labels of low, mid and high.
        log: If True, use a logarithmic axis; numbers of 0 and below are then gaps.
    Raises:
        ShapeError: if the arrays have inconsistent shapes.
        ConfigError: if steps do not increase, or two layers have the same name.
    Source:
        Glorot & Bengio 2010, figs. 3 and 10: 98th percentile as markers, standard deviation as lines.

    >>> figure = percentile_bands([[-1, -2]], [[0, 0]], [[1, 3]], [0, 10], ["dense 1"], quantity="activation")
    >>> [trace.y.tolist() for trace in figure.data if trace.name == "dense 1" and trace.fill is None]
    [[0.0, 0.0], [1.0, 3.0], [-1.0, -2.0]]
    """
    middle = as_layer_table(mid, "mid")
    series = LayerSeries(
        low=as_array_like(low, "low", middle, "mid"),
        mid=middle,
        high=as_array_like(high, "high", middle, "mid"),
        spread=None if spread is None else as_array_like(spread, "spread", middle, "mid"),
    )
    keys = [
        legend_key(label(names[2]), mode="markers", marker={"symbol": "circle", "size": 7}),
        legend_key(label(names[1]), mode="lines", line={"width": 2.2}),
        legend_key(label(names[0]), mode="markers", marker={"symbol": "circle-open", "size": 7}),
    ]
    if spread is not None:
        keys.append(legend_key("standard deviation", mode="lines", line={"dash": "dash"}))
    return draw_layers(
        {title: series}, steps, layers, axis_title(quantity, unit), x_name, edges_as_markers(names), keys, log=log
    )


def mean_and_spread(
    mean: Values,
    std: Values,
    steps: Values,
    layers: Sequence[object] | None = None,
    *,
    quantity: str,
    unit: str = "",
    title: str = "",
    x_name: str = TIME,
) -> go.Figure:
    """Plot the mean of each layer at every step, in a band of one standard deviation on either side.

    If there are more than twelve layers, twelve of them are drawn. More than 1,000 steps are grouped: the line is the
    mean of each group, the band the union of its bands. Notes in the figure say so.

    Args:
        mean: (layers, steps), in `unit`. NaN is a gap.
        std: standard deviations, (layers, steps).
        steps: (steps,), increasing.
        layers: names of the layers, from the first to the last. If None, numbers from 1.
        quantity: name of the quantity, such as "activation".
    Raises:
        ShapeError: if the arrays have inconsistent shapes.
        ConfigError: if steps do not increase, or two layers have the same name.
    Source:
        Glorot & Bengio 2010, fig. 2.

    >>> figure = mean_and_spread([[0.5, 0.6]], [[0.1, 0.2]], [0, 10], quantity="activation")
    >>> figure.data[1].y.tolist()
    [0.5, 0.6]
    """
    middle = as_layer_table(mean, "mean")
    half = as_array_like(std, "std", middle, "mean")
    series = LayerSeries(middle - half, middle, middle + half)
    keys = [
        legend_key("± standard deviation", mode="markers", marker={"symbol": "square", "size": 13, "opacity": 0.35})
    ]
    return draw_layers({title: series}, steps, layers, axis_title(quantity, unit), x_name, line_in_band, keys)


def std_intervals(
    std: Values | Mapping[str, Values],
    steps: Values,
    layers: Sequence[object] | None = None,
    *,
    quantity: str,
    unit: str = "",
    x_name: str = TIME,
) -> go.Figure:
    """Plot intervals of one standard deviation on either side of zero, for each layer over time.

    If there are more than twelve layers, twelve of them are drawn. More than 1,000 steps are grouped, and the widest
    interval of each group is drawn. Notes in the figure say so.

    Args:
        std: standard deviations, (layers, steps), in `unit`; or a mapping from names, such as initialisers, to such
            tables, with one panel each on the same axes. NaN is a gap.
        steps: (steps,), increasing, the same in all panels.
        layers: names of the layers, from the first to the last. If None, numbers from 1.
        quantity: name of the quantity, such as "weight gradient".
    Raises:
        ShapeError: if the arrays have inconsistent shapes.
        ConfigError: if steps do not increase, or two layers have the same name.
    Source:
        Glorot & Bengio 2010, fig. 9.

    >>> figure = std_intervals({"standard": [[2, 3]], "normalized": [[1, 1]]}, [0, 10], quantity="weight gradient")
    >>> [trace.y.tolist() for trace in figure.data if trace.fill is None][:2]
    [[2.0, 3.0], [-2.0, -3.0]]
    """
    panels = (
        {name: as_layer_table(each, f"std of {name!r}") for name, each in std.items()}
        if isinstance(std, Mapping)
        else {}
    )
    if not isinstance(std, Mapping):
        panels = {"": as_layer_table(std, "std")}
    series = {name: LayerSeries(-each, np.zeros_like(each), each) for name, each in panels.items()}
    return draw_layers(series, steps, layers, "± std of " + axis_title(quantity, unit), x_name, two_edges, [])
