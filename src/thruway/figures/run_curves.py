"""Curves of whole runs, such as the test error during training."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError, unknown_name
from thruway.figures.downsampling import group_starts, largest, mean, smallest
from thruway.figures.inputs import FloatArray, Values, as_array, as_array_like, as_increasing
from thruway.figures.lines import band, line
from thruway.figures.panels import add_note, empty_figure, fit_legend, label, legend_key, log_axis, small_multiples
from thruway.figures.theme import BLOCK_STYLES, GREY, OTHER_STYLES, MarkerStyle

__all__ = ["run_curves"]

MAX_POINTS = 1000  # per curve; about the width of a page in pixels
DASHES = ("solid", "dot", "dashdot")  # used in turn when the colours are exhausted

Curve = tuple[Values, Values]  # x, y
Band = tuple[Values, Values, Values]  # x, lowest, highest


def run_curves(
    curves: Mapping[str, Curve],
    *,
    bands: Mapping[str, Band] | None = None,
    references: Collection[str] = (),
    x_name: str,
    y_name: str,
    title: str = "",
    log: bool = False,
) -> go.Figure:
    """Plot one curve per run, such as the test error against the number of examples, with the range over seeds as a
    band.

    In curves with more than 1,000 points, groups of neighbours are drawn as their mean, bands as the union of each
    group; a note in the figure says so.

    Args:
        curves: (x, y) by name of a run: two sequences of the same length, with increasing x. NaN is a gap.
        bands: (x, lowest, highest) by name of a run, for some or all of the runs.
        references: names of reference runs, drawn grey and dashed.
        x_name, y_name: titles of the axes, with units.
        log: If True, use a logarithmic y axis; numbers of 0 and below are then gaps.
    Raises:
        ShapeError: if the parts of a curve differ in length.
        ConfigError: if an x does not increase, or `bands` or `references` has an unknown name.
    Source:
        Glorot & Bengio 2010, figs. 11 and 12.

    >>> figure = run_curves({"tanh": ([0, 300], [60, 27.15])}, x_name="examples seen", y_name="test error (%)")
    >>> figure.data[0].name, figure.data[0].y.tolist()
    ('tanh', [60.0, 27.15])
    """
    bands = bands or {}
    for name in (*bands, *references):
        if name not in curves:
            raise ConfigError(f"every band and reference needs a curve: {unknown_name('curve', name, curves)}")
    if not curves:
        return empty_figure("Nothing to draw: no run has been evaluated yet.")
    thinned = {name: _points(name, curve, log) for name, curve in curves.items()}
    edges = {name: _edges(name, each, log) for name, each in bands.items()}
    values = [value for _, y in thinned.values() for value in y.tolist()]
    y_axis = log_axis(y_name, values) if log else {"title": {"text": label(y_name)}}
    figure = small_multiples([title], [{"title": {"text": label(x_name)}, "rangemode": "tozero"}], y_axis)
    styles = _styles(curves, references)
    for name, (low_x, low, high) in edges.items():
        figure.add_trace(
            band(low_x, low, high, color=styles[name][0].color).update(legendgroup=label(name), showlegend=False)
        )
    for name, (x, y) in thinned.items():
        style, dash = styles[name]
        trace = line(x, y, title=label(name), x_name=label(x_name), color=style.color)
        trace.update(name=label(name), legendgroup=label(name), line={"dash": dash})
        if name not in references:
            trace.update(mode="lines+markers", marker={"symbol": style.symbol, "size": 8, "maxdisplayed": 9})
        figure.add_trace(trace)
    if bands:
        figure.add_trace(legend_key("range", mode="markers", marker={"symbol": "square", "size": 14, "opacity": 0.35}))
    fit_legend(figure)
    is_thinned = any(len(as_array(x, "x")) > MAX_POINTS for x, _ in curves.values())
    return add_note(figure, ["Each point: the mean of several neighbours."] if is_thinned else [])


def _points(name: str, curve: Curve, log: bool) -> tuple[FloatArray, FloatArray]:
    x = as_array(curve[0], f"x of {name!r}")
    y = as_array_like(curve[1], f"y of {name!r}", x, "its x")
    x = as_increasing(x, f"x of {name!r}", x.size)
    starts, size = group_starts(len(x), MAX_POINTS)
    if size > 1:
        x, y = x[starts], mean(y, starts, 0)
    return x, np.where(y > 0, y, np.nan) if log else y


def _edges(name: str, edges: Band, log: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    x = as_array(edges[0], f"x of the band of {name!r}")
    low, high = (as_array_like(each, f"an edge of the band of {name!r}", x, "its x") for each in edges[1:])
    x = as_increasing(x, f"x of the band of {name!r}", x.size)
    starts, size = group_starts(len(x), MAX_POINTS)
    if size > 1:
        x, low, high = x[starts], smallest(low, starts, 0), largest(high, starts, 0)
    return x, np.where(low > 0, low, np.nan) if log else low, high


def _styles(names: Collection[str], references: Collection[str]) -> dict[str, tuple[MarkerStyle, str]]:
    """Return the style and the dash of each run: fixed for blocks, grey for references, any other for the rest."""
    own = [name for name in names if name in BLOCK_STYLES and name not in references]
    free: Sequence[MarkerStyle] = [
        *(style for block, style in BLOCK_STYLES.items() if block not in own),
        *(style for style in OTHER_STYLES if style.color != GREY),
    ]
    chosen: dict[str, tuple[MarkerStyle, str]] = {name: (BLOCK_STYLES[name], "solid") for name in own}
    others = [name for name in names if name not in own and name not in references]
    for number, name in enumerate(others):
        chosen[name] = (free[number % len(free)], DASHES[number // len(free) % len(DASHES)])
    return chosen | {name: (MarkerStyle(GREY, "circle"), "dash") for name in references}
