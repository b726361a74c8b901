"""The figures of the study: Table 1 as a picture, and the search behind it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thruway.experiments.glorot2010.errors import PAIRS
from thruway.experiments.glorot2010.errors_rows import Curve
from thruway.figures import run_curves
from thruway.figures.look import BLOCK_LOOKS, GREY, OTHER_LOOKS, label
from thruway.figures.panels import axes_of, empty_figure, fit_legend, legend_key, small_multiples

__all__ = ["error_curves", "search_figure", "table_figure"]

Rows = Sequence[Mapping[str, Any]]

# An activation has a colour and a start a dash and a marker, so that the pairs that differ in one of them look it.
_COLOURS = {
    "tanh": BLOCK_LOOKS["plain"].color,
    "softsign": BLOCK_LOOKS["highway"].color,
    "sigmoid": OTHER_LOOKS[0].color,
}
_STANDARD, _NORMALIZED, _PRETRAINED = ("dash", "circle-open"), ("solid", "circle"), ("dot", "diamond")


def error_curves(curves: Mapping[str, Curve], batch: int) -> go.Figure:
    """Test error against examples seen, the mean over seeds with their range: figs. 11 and 12 of the paper."""
    lines, bands = {}, {}
    for pair, (updates, errors) in curves.items():
        # NaN is a seed that diverged or has not come so far: then there is no mean.
        percent, name = 100 * errors, PAIRS[pair].title
        lines[name] = (updates * batch, percent.mean(axis=1))
        if percent.shape[1] > 1:
            bands[name] = (updates * batch, percent.min(axis=1), percent.max(axis=1))
    figure = run_curves(
        lines,
        bands=bands,
        references=[PAIRS[pair].title for pair in curves if PAIRS[pair].is_pretrained],
        x_name="training examples seen",
        y_name="test error (%)",
    )
    for pair in curves:
        colour, dash, symbol = _look(pair)
        for trace in figure.data:
            if trace.legendgroup == label(PAIRS[pair].title):
                is_band = trace.fill == "toself"
                trace.update(fillcolor=colour) if is_band else trace.update(
                    line={"color": colour, "dash": dash}, marker={"color": colour, "symbol": symbol}
                )
    return figure


def table_figure(errors: Mapping[str, Sequence[float]], paper: Mapping[str, float], majority_error: float) -> go.Figure:
    """The test error of every pair: one mark per seed, and the paper's.

    Args:
        errors: pair -> the test error of each seed, 0 to 1.
        paper: pair -> the paper's test error, in percent; empty if it has none for this data.
        majority_error: the error of always naming the most frequent class, 0 to 1.
    """
    if not errors:
        return empty_figure("No error to draw: no net has been trained to the end yet.")
    titles = [PAIRS[pair].title for pair in errors]
    axis = {"type": "category", "range": [-0.5, len(titles) - 0.5], "categoryarray": titles, "categoryorder": "array"}
    figure = small_multiples([""], [axis], {"title": {"text": "test error (%)"}, "rangemode": "tozero"})
    for pair, seeds in errors.items():
        colour, _, symbol = _look(pair)
        style = {"color": colour, "symbol": symbol, "size": 11, "line": {"width": 1.5, "color": colour}}
        figure.add_scatter(
            x=[PAIRS[pair].title] * len(seeds),
            y=[100 * error for error in seeds],
            mode="markers",
            marker=style,
            showlegend=False,
            hovertemplate="%{x}: %{y:.2f} %<extra>this run</extra>",
        )
    if paper:
        known = [pair for pair in errors if pair in paper]
        figure.add_scatter(
            x=[PAIRS[pair].title for pair in known],
            y=[paper[pair] for pair in known],
            mode="markers",
            name="the paper",
            marker={"symbol": "line-ew-open", "size": 26, "color": GREY, "line": {"width": 2.5, "color": GREY}},
            hovertemplate="%{x}: %{y:.2f} %<extra>the paper</extra>",
        )
    if math.isfinite(majority_error):
        figure.add_hline(y=100 * majority_error, line={"color": GREY, "dash": "dot", "width": 1})
        dotted = {"dash": "dot", "color": GREY}
        figure.add_trace(legend_key("always the most frequent class", mode="lines", line=dotted))
    figure.add_trace(legend_key("this run, each seed", mode="markers", marker={"symbol": "circle", "size": 11}))
    return fit_legend(figure)


def search_figure(rows: Rows) -> go.Figure:
    """Validation error against learning rate, one panel per depth: what the choice was made from."""
    if not rows:
        return empty_figure("No search to draw: its nets have not been trained to the end yet.")
    depths = sorted({row["depth"] for row in rows})
    rates = sorted({row["learning_rate"] for row in rows})
    axis = {"type": "log", "title": {"text": "learning rate"}, "tickvals": rates, "ticktext": [f"{r:g}" for r in rates]}
    titles = [f"{depth} hidden layer{'s' * (depth != 1)}" for depth in depths]
    figure = small_multiples(titles, [axis] * len(depths), {"title": {"text": "validation error (%)"}})
    named: set[str] = set()
    for pair in (pair for pair in PAIRS if any(row["pair"] == pair for row in rows)):
        colour, dash, symbol = _look(pair)
        for number, depth in enumerate(depths):
            those = [row for row in rows if (row["pair"], row["depth"]) == (pair, depth)]
            mine = sorted((row["learning_rate"], row["valid_error"]) for row in those)
            if not mine:
                continue
            x, y = axes_of(number)
            figure.add_scatter(
                x=[rate for rate, _ in mine],
                y=100 * np.array([error for _, error in mine]),
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                marker={"color": colour, "symbol": symbol, "size": 8},
                name=label(PAIRS[pair].title),
                legendgroup=pair,
                showlegend=pair not in named,
                xaxis=x,
                yaxis=y,
                meta=label(PAIRS[pair].title),
                hovertemplate="%{meta}<br>learning rate %{x}: %{y:.2f} %<extra></extra>",
            )
            named.add(pair)
    return fit_legend(figure)


def _look(pair: str) -> tuple[str, str, str]:
    """Colour, dash and marker of a pair."""
    entry = PAIRS[pair]
    start = _PRETRAINED if entry.is_pretrained else _STANDARD if entry.scheme == "standard" else _NORMALIZED
    return (GREY if entry.is_pretrained else _COLOURS[entry.activation], *start)
