"""Figures of single deletions over the depth of a network."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.figures.inputs import Values, as_array_like, as_vector, layer_names
from thruway.figures.panels import axis_title, empty_figure, fit_legend, label, legend_key, small_multiples
from thruway.figures.theme import BLOCK_STYLES, GREY, OTHER_STYLES, MarkerStyle

__all__ = ["KIND_STYLES", "deletion_bars", "deletion_comparison", "kind_styles"]

# The kinds of branches that a dissection distinguishes.
KIND_STYLES: dict[str, MarkerStyle] = {
    "identity": BLOCK_STYLES["residual"],
    "projection": OTHER_STYLES[0],
    "gated": BLOCK_STYLES["highway"],
    "module": BLOCK_STYLES["plain"],
}
DEPTH = "deleted branch, in order of depth"


def deletion_bars(
    values: Values,
    names: Sequence[object] | None = None,
    *,
    intact: float,
    low: Values | None = None,
    high: Values | None = None,
    kinds: Sequence[str] | None = None,
    boundaries: Sequence[int] = (),
    first: int = 1,
    quantity: str,
    unit: str = "",
    title: str = "",
    x_name: str = DEPTH,
) -> go.Figure:
    """Plot one bar per branch, from the metric of the intact network, a line, to the metric without this branch.

    Args:
        values: (branches,), first branch first, in `unit`. NaN is a gap.
        names: names of the branches for the hover text. If None, numbers from 1.
        intact: metric with all branches.
        low, high: ends of the interval around each value, (branches,); both or neither.
        kinds: kind of each branch, "identity", "projection", "gated" or "module", which sets its colour.
        boundaries: indices of the branches at which a stage of a different shape begins, counted from 0.
        first: number of the first branch on the axis. Pass 0 for the indices of a dissection.
        quantity: name of the metric, such as "test error".
    Raises:
        ShapeError: if the sequences differ in length.
        ConfigError: if a kind is unknown, only one end of the intervals is given, or a boundary is outside the network.
    Source:
        Veit, Wilber & Belongie 2016, figs. 3 and 4.

    >>> figure = deletion_bars([0.1, 0.4], intact=0.08, low=[0.09, 0.3], high=[0.12, 0.5], quantity="test error")
    >>> (figure.data[0].base, figure.data[0].y.round(2).tolist())
    (0.08, [0.02, 0.32])
    """
    heights = as_vector(values, "values")
    if heights.size == 0:
        return empty_figure("Nothing to delete: the network has no branches.")
    if (low is None) != (high is None):
        raise ConfigError("an interval needs both ends: pass low and high, or neither.")
    labels = layer_names(names, len(heights))
    kind_list = ["identity"] * len(heights) if kinds is None else [str(kind) for kind in kinds]
    if len(kind_list) != len(heights):
        raise ShapeError(f"got {len(kind_list)} kinds for {len(heights)} values. Pass one kind per branch.")
    colors = kind_styles(kind_list)
    figure = small_multiples(
        [title], [_depth_axis(len(heights), x_name, first)], {"title": {"text": axis_title(quantity, unit)}}
    )
    x = np.arange(first, first + len(heights))
    for kind, style in colors.items():
        at = np.array([each == kind for each in kind_list])
        bar = go.Bar(
            x=x[at],
            y=heights[at] - intact,
            base=intact,
            width=0.8,  # otherwise the bars of a rare kind would be wider
            name=label(kind),
            marker={"color": style.color, "line": {"width": 0}},
            showlegend=kinds is not None,
            customdata=np.stack([[label(labels[place]) for place in np.flatnonzero(at)], heights[at]], axis=1),
            hovertemplate="%{customdata[0]}<br>%{customdata[1]:.4g}<extra></extra>",
        )
        if low is not None and high is not None:
            upper, lower = (
                as_array_like(edge, name, heights, "values") for edge, name in ((high, "high"), (low, "low"))
            )
            bar.error_y = {
                "type": "data",
                "symmetric": False,
                "array": (upper - heights)[at],
                "arrayminus": (heights - lower)[at],
                "color": GREY,
                "thickness": 1,
                "width": 2 if len(heights) <= 40 else 0,
            }
        figure.add_trace(bar)
    figure.update_layout(barmode="overlay")
    _mark_boundaries(figure, boundaries, len(heights), first)
    _mark_intact(figure, [(label("intact"), intact, GREY)])
    return fit_legend(figure)


def deletion_comparison(
    nets: Mapping[str, Values],
    *,
    intact: Mapping[str, float] | None = None,
    boundaries: Sequence[int] = (),
    quantity: str,
    unit: str = "",
    title: str = "",
    x_name: str = DEPTH,
) -> go.Figure:
    """Plot single deletions in several networks of the same architecture, to compare their robustness.

    Args:
        nets: metric without each branch, (branches,), in `unit`, by name of a network. NaN is a gap.
        intact: metric with all branches by name of a network, drawn as a dashed line in the colour of the network.
        boundaries: indices of the branches at which a stage of a different shape begins, counted from 0.
        quantity: name of the metric, such as "test error".
    Raises:
        ShapeError: if the networks differ in length.
        ConfigError: if a boundary is outside the network, or `intact` has an unknown name.
    Source:
        Veit, Wilber & Belongie 2016, fig. 8, with and without stochastic depth.

    >>> figure = deletion_comparison({"as usual": [0.2, 0.4], "stochastic depth": [0.1, 0.2]}, quantity="test error")
    >>> [trace.name for trace in figure.data]
    ['as usual', 'stochastic depth']
    """
    rows = {name: as_vector(values, f"values of {name!r}") for name, values in nets.items()}
    if not rows or not next(iter(rows.values())).size:
        return empty_figure("Nothing to compare: no network has branches.")
    first, *others = rows
    for name in others:
        as_array_like(rows[name], f"values of {name!r}", rows[first], repr(first))
    for name in intact or {}:
        if name not in rows:
            raise ConfigError(unknown_name("net", name, rows))
    count = len(rows[first])
    figure = small_multiples([title], [_depth_axis(count, x_name, 1)], {"title": {"text": axis_title(quantity, unit)}})
    free = [BLOCK_STYLES["plain"], BLOCK_STYLES["highway"], BLOCK_STYLES["residual"], *OTHER_STYLES]
    for number, (name, values) in enumerate(rows.items()):
        style = free[number % len(free)]
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, count + 1),
                y=values,
                mode="lines+markers",
                name=label(name),
                line={"color": style.color, "width": 1.6},
                marker={"color": style.color, "symbol": style.symbol, "size": 6},
                meta=[label(name)],
                hovertemplate="%{meta[0]}<br>without %{x}: %{y:.4g}<extra></extra>",
            )
        )
        if intact and name in intact:
            figure.add_hline(y=intact[name], line={"color": style.color, "width": 1.4, "dash": "dash"})
    if intact:
        figure.add_trace(legend_key("intact", mode="lines", line={"dash": "dash"}))
    _mark_boundaries(figure, boundaries, count, 1)
    return fit_legend(figure)


def kind_styles(kinds: Sequence[str]) -> dict[str, MarkerStyle]:
    """Return the style of each kind that occurs, in the order of KIND_STYLES.

    Raises:
        ConfigError: if a kind is not in KIND_STYLES.
    """
    for kind in kinds:
        if kind not in KIND_STYLES:
            raise ConfigError(unknown_name("kind", kind, KIND_STYLES))
    return {kind: style for kind, style in KIND_STYLES.items() if kind in kinds}


def _depth_axis(count: int, x_name: str, first: int) -> dict[str, object]:
    axis: dict[str, object] = {"title": {"text": label(x_name)}, "range": [first - 0.6, first + count - 0.4]}
    return axis | ({"dtick": 1} if count <= 12 else {})


def _mark_boundaries(figure: go.Figure, boundaries: Sequence[int], count: int, first: int) -> None:
    for place in boundaries:
        if not 0 <= place < count:
            raise ConfigError(f"a boundary must be the index of a branch, 0 to {count - 1}, got {place}.")
        figure.add_vline(x=first + place - 0.5, line={"color": GREY, "width": 1, "dash": "dot"})
    if boundaries:
        figure.add_trace(legend_key("new shape", mode="lines", line={"dash": "dot", "width": 1}))


def _mark_intact(figure: go.Figure, lines: Sequence[tuple[str, float, str]]) -> None:
    for name, value, color in lines:
        figure.add_hline(y=value, line={"color": color, "width": 1.4, "dash": "dash"})
        figure.add_trace(legend_key(name, mode="lines", line={"dash": "dash", "width": 1.4}))
