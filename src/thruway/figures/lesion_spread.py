"""Figures of the deletion of several branches, and of reordered branches."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.inputs import Values, as_array_like, as_vector
from thruway.figures.panels import axis_title, empty_figure, fit_legend, label, legend_key, small_multiples
from thruway.figures.scales import layer_color
from thruway.figures.theme import BLOCK_STYLES, GREY

__all__ = ["deletion_boxes", "order_scatter"]


def deletion_boxes(
    draws: Mapping[int, Values], *, intact: float | None = None, quantity: str, unit: str = "", title: str = ""
) -> go.Figure:
    """Plot one box per number of deleted branches: median, quartiles, and every draw as a point.

    Args:
        draws: metric of each draw, (draws,), in `unit`, by number of deleted branches.
        intact: metric with all branches, drawn as a line.
        quantity: name of the metric, such as "test error".
    Raises:
        ShapeError: if the draws are not one-dimensional.
        ConfigError: if a number of branches is below 0.
    Source:
        Veit, Wilber & Belongie 2016, fig. 5 (a).

    >>> figure = deletion_boxes({1: [0.1, 0.2], 5: [0.4, 0.6]}, intact=0.08, quantity="test error")
    >>> [(box.x[0], box.y.tolist()) for box in figure.data if box.type == "box"]
    [(1, [0.1, 0.2]), (5, [0.4, 0.6])]
    """
    rows = {int(count): as_vector(values, f"draws of {count}") for count, values in sorted(draws.items())}
    if any(count < 0 for count in rows):
        raise ConfigError(f"the number of deleted branches must be 0 or more, got {min(rows)}.")
    if not rows:
        return empty_figure("Nothing to draw: there are no deletions.")
    gaps = np.diff(list(rows))
    narrow = float(gaps.min()) if gaps.size else 1.0
    axis = {"title": {"text": "deleted branches (number)"}, "tickvals": list(rows) if len(rows) <= 20 else None}
    figure = small_multiples([title], [axis], {"title": {"text": axis_title(quantity, unit)}})
    style = BLOCK_STYLES["residual"]
    for count, values in rows.items():
        figure.add_trace(
            go.Box(
                x=[count] * len(values),
                y=values,
                width=0.5 * narrow,
                boxpoints="all",
                pointpos=0,
                jitter=0.6,
                fillcolor="rgba(128, 134, 145, 0.18)",
                line={"color": GREY, "width": 1.4},
                marker={"color": style.color, "size": 4, "opacity": 0.75},
                showlegend=False,
                hovertemplate="without %{x}: %{y:.4g}<extra></extra>",
            )
        )
    figure.add_trace(legend_key("a draw", mode="markers", marker={"color": style.color, "size": 6}))
    figure.add_trace(legend_key("quartiles", mode="markers", marker={"symbol": "square-open", "size": 11}))
    if intact is not None:
        figure.add_hline(y=intact, line={"color": GREY, "width": 1.4, "dash": "dash"})
        figure.add_trace(legend_key("intact", mode="lines", line={"dash": "dash", "width": 1.4}))
    return fit_legend(figure)


def order_scatter(
    tau: Values,
    values: Values,
    *,
    swaps: Values | None = None,
    intact: float | None = None,
    quantity: str,
    unit: str = "",
    title: str = "",
) -> go.Figure:
    """Plot the metric of networks with reordered branches against the correlation with the original order.

    Args:
        tau: (draws,), Kendall's correlation with the original order, from 1 (unchanged) to -1 (reversed).
        values: (draws,), metric, in `unit`.
        swaps: (draws,), number of swapped pairs, which sets the colour of a point.
        intact: metric of the original order, drawn as a line.
        quantity: name of the metric, such as "test error".
    Raises:
        ShapeError: if the sequences differ in length.
        ConfigError: if a correlation is outside -1 ... 1.
    Source:
        Veit, Wilber & Belongie 2016, fig. 5 (b).

    >>> order_scatter([1, 0.8], [0.1, 0.3], swaps=[0, 2], quantity="test error").data[0].y.tolist()
    [0.1]
    """
    x = as_vector(tau, "tau")
    y = as_array_like(values, "values", x, "tau")
    if (np.abs(x) > 1 + 1e-9).any():
        raise ConfigError(f"Kendall's tau must be between -1 and 1, got {x[np.abs(x).argmax()]:.4g}.")
    if x.size == 0:
        return empty_figure("Nothing to draw: there are no permutations.")
    # Reversed, so that the damage increases to the right, as in all figures of lesions.
    axis = {"title": {"text": "similarity to the original order (Kendall's tau)"}, "autorange": "reversed"}
    figure = small_multiples([title], [axis], {"title": {"text": axis_title(quantity, unit)}})
    counts = np.zeros_like(x) if swaps is None else as_array_like(swaps, "swaps", x, "tau")
    groups = np.unique(counts)
    for number, count in enumerate(groups.tolist()):
        at = counts == count
        color = BLOCK_STYLES["residual"].color if swaps is None else layer_color(number, len(groups))
        figure.add_trace(
            go.Scatter(
                x=x[at],
                y=y[at],
                mode="markers",
                name=label(f"{count:g} swaps" if count != 1 else "1 swap"),
                showlegend=swaps is not None and len(groups) <= 12,
                marker={"color": color, "size": 7, "opacity": 0.75},
                hovertemplate="tau %{x:.3f}: %{y:.4g}<extra></extra>",
            )
        )
    if intact is not None:
        figure.add_hline(y=intact, line={"color": GREY, "width": 1.4, "dash": "dash"})
        figure.add_trace(legend_key("intact", mode="lines", line={"dash": "dash", "width": 1.4}))
    return fit_legend(figure)
