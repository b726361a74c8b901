"""Figures of the paths through a residual network by length: number, gradient and survival."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.inputs import FloatArray, Values, as_array_like, as_increasing, as_vector
from thruway.figures.panels import (
    axes_of,
    axis_title,
    empty_figure,
    fit_legend,
    label,
    legend_key,
    log_axis,
    small_multiples,
)
from thruway.figures.scales import layer_color
from thruway.figures.theme import BLOCK_STYLES, GREY

__all__ = ["path_lengths", "path_survival"]

LENGTH = "path length (branches)"
TITLES = ("number of paths", "gradient along one path", "gradient of all paths")


def path_lengths(
    lengths: Values,
    share: Values,
    gradient: Values,
    contribution: Values,
    *,
    effective: tuple[float, float] | None = None,
    gradient_low: Values | None = None,
    gradient_high: Values | None = None,
    unit: str = "",
    contribution_name: str = "share of the gradient",
    titles: Sequence[str] = TITLES,
) -> go.Figure:
    """Plot three panels by path length: the number of paths, the gradient along one path, and the gradient of all
    paths.

    Args:
        lengths: (lengths,), increasing: number of branches on a path.
        share: (lengths,), share of all paths. NaN is a gap, here and below.
        gradient: (lengths,), mean norm of the gradient along one path, in `unit`; 0 is not visible on the
            logarithmic axis.
        contribution: (lengths,), contribution of all paths of a length together.
        effective: shortest and longest effective path, shaded in all panels.
        gradient_low, gradient_high: (lengths,), ends of the interval around `gradient`; both or neither.
    Raises:
        ShapeError: if the sequences differ in length.
        ConfigError: if the lengths do not increase, or only one end of the intervals is given.
    Source:
        Veit, Wilber & Belongie 2016, fig. 6 (a) to (c).

    >>> figure = path_lengths([0, 1, 2], [0.25, 0.5, 0.25], [1, 0.1, 0.01], [0.8, 0.16, 0.04], effective=(0, 1))
    >>> [figure.layout[axis].type for axis in ("yaxis", "yaxis2", "yaxis3")]
    [None, 'log', None]
    """
    x = as_vector(lengths, "lengths")
    x = as_increasing(x, "lengths", len(x))
    given = zip(("share", "gradient", "contribution"), (share, gradient, contribution), strict=True)
    shares, gradients, contributions = (as_array_like(values, name, x, "lengths") for name, values in given)
    if (gradient_low is None) != (gradient_high is None):
        raise ConfigError("an interval needs both ends: pass gradient_low and gradient_high, or neither.")
    if x.size == 0:
        return empty_figure("No paths: the network has no branches.")
    figure = small_multiples(list(titles), [{"title": {"text": LENGTH}}] * 3, {})
    positive = np.where(gradients > 0, gradients, np.nan)
    y_axes = (
        {"title": {"text": "share of the paths"}, "rangemode": "tozero"},
        log_axis(axis_title("gradient norm", unit), positive.tolist()),
        {"title": {"text": label(contribution_name)}, "rangemode": "tozero"},
    )
    for number, axis in enumerate(y_axes):
        # Three quantities with separate scales.
        figure.layout[f"yaxis{number + 1 if number else ''}"].update({**axis, "matches": None})
    styles = (BLOCK_STYLES["highway"], BLOCK_STYLES["plain"], BLOCK_STYLES["residual"])
    for number, (values, style) in enumerate(zip((shares, positive, contributions), styles, strict=True)):
        x_axis, y_axis = axes_of(number)
        is_line = number == 1
        trace: go.Scatter | go.Bar
        if is_line:
            trace = go.Scatter(mode="lines+markers", marker={"size": 5}, line={"color": style.color, "width": 1.8})
            if gradient_low is not None and gradient_high is not None:
                trace.error_y = _bars(
                    positive, as_array_like(gradient_low, "gradient_low", x, "lengths"), gradient_high
                )
        else:
            trace = go.Bar(marker={"color": style.color, "line": {"width": 0}})
        trace.update(
            x=x,
            y=values,
            xaxis=x_axis,
            yaxis=y_axis,
            showlegend=False,
            hovertemplate="%{x} branches: %{y:.3g}<extra></extra>",
        )
        figure.add_trace(trace)
        if effective is not None:
            _shade(figure, effective, x_axis, y_axis)
    figure.update_layout(bargap=0.15)
    if effective is not None:
        figure.add_trace(_effective_key(effective))
    return fit_legend(figure)


def path_survival(
    lengths: Values,
    left: Mapping[int, Values],
    *,
    effective: tuple[float, float] | None = None,
    title: str = "",
) -> go.Figure:
    """Plot the share of paths of each length that survive deletions, with one line per number of deleted branches.

    Args:
        lengths: (lengths,), increasing: number of branches on a path.
        left: share of surviving paths of each length, (lengths,), by number of deleted branches.
        effective: shortest and longest effective path, shaded.
    Raises:
        ShapeError: if the sequences differ in length.
        ConfigError: if the lengths do not increase.
    Source:
        Veit, Wilber & Belongie 2016, fig. 7: C(n - d, x) / C(n, x).

    >>> figure = path_survival([0, 1, 2], {0: [1, 1, 1], 1: [1, 0.5, 0]})
    >>> [(trace.name, trace.y.tolist()) for trace in figure.data]
    [('0 deleted', [1.0, 1.0, 1.0]), ('1 deleted', [1.0, 0.5, 0.0])]
    """
    x = as_vector(lengths, "lengths")
    x = as_increasing(x, "lengths", len(x))
    rows = {
        count: as_array_like(values, f"left after {count}", x, "lengths")
        for count, values in sorted(left.items(), key=_count)
    }
    if x.size == 0 or not rows:
        return empty_figure("Nothing to draw: there are no paths.")
    figure = small_multiples(
        [title], [{"title": {"text": LENGTH}}], {"title": {"text": "share of surviving paths"}, "range": [-0.03, 1.03]}
    )
    for number, (count, values) in enumerate(rows.items()):
        color = layer_color(number, len(rows))
        figure.add_trace(
            go.Scatter(
                x=x,
                y=values,
                mode="lines",
                name=label(f"{count} deleted"),
                line={"color": color, "width": 2.2},
                meta=[count],
                hovertemplate="without %{meta[0]}: %{y:.1%} of the paths through %{x}<extra></extra>",
            )
        )
    if effective is not None:
        _shade(figure, effective, "x", "y")
        figure.add_trace(_effective_key(effective))
    return fit_legend(figure)


def _count(item: tuple[int, Values]) -> int:
    return item[0]


def _bars(values: FloatArray, low: FloatArray, high: Values) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": as_array_like(high, "gradient_high", values, "lengths") - values,
        "arrayminus": values - low,
        "color": GREY,
        "thickness": 1,
        "width": 0,
    }


def _shade(figure: go.Figure, effective: tuple[float, float], x_axis: str, y_axis: str) -> None:
    shortest, longest = effective
    figure.add_shape(
        type="rect",
        xref=x_axis,
        yref=f"{y_axis} domain",
        x0=shortest - 0.5,
        x1=longest + 0.5,
        y0=0,
        y1=1,
        fillcolor=GREY,
        opacity=0.16,
        line={"width": 0},
        layer="below",
    )


def _effective_key(effective: tuple[float, float]) -> go.Scatter:
    name = f"effective paths ({effective[0]:g} to {effective[1]:g})"
    return legend_key(name, mode="markers", marker={"symbol": "square", "size": 14, "opacity": 0.35})
