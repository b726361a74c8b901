"""Figure of the training loss against epochs, as in fig. 1 of both highway papers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.figures.lines import band
from thruway.figures.panels import axes_of, empty_figure, fit_legend, legend_key, small_multiples
from thruway.figures.theme import GREY, MarkerStyle, block_styles, label, log_axis
from thruway.report.losses import for_log_axis

__all__ = ["loss_curves"]

Key = tuple[str, int]  # block, depth
Curve = tuple[ArrayLike, ArrayLike]  # epochs, losses
Band = tuple[ArrayLike, ArrayLike, ArrayLike]  # epochs, lowest, highest

DEPTH_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


def loss_curves(
    best: Mapping[Key, Curve],
    *,
    means: Mapping[Key, Curve] | None = None,
    bands: Mapping[Key, Band] | None = None,
    panel: Literal["depth", "block"] = "depth",
    loss_name: str = "training cross-entropy (nats)",
) -> go.Figure:
    """The training loss over epochs, for every kind of block at every depth.

    A solid line is the best run of the search, a dashed line the mean of its best few runs, a band the range over
    seeds or runs. A line has a gap where the loss is NaN or infinite.

    Args:
        best: (block, depth) to (epochs, losses), two sequences of one length.
        means: the same for the mean of the best few runs.
        bands: (block, depth) to (epochs, lowest, highest loss).
        panel: "depth" for a panel per depth, which compares blocks, or "block" for a panel per block.
        loss_name: title of the loss axis, which is logarithmic.
    Returns:
        A Plotly figure with one panel per depth or per block.
    Raises:
        ConfigError: for an unknown `panel`.
        ShapeError: if epochs and losses differ in length.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (both papers), fig. 1.

    >>> figure = loss_curves({("plain", 10): ([1, 2], [0.5, 0.1]), ("highway", 10): ([1, 2], [0.3, 0.01])})
    >>> [trace.name for trace in figure.data]
    ['plain', 'highway']
    """
    if panel not in ("depth", "block"):
        raise ConfigError(unknown_name("panel", panel, ("depth", "block")))
    keys = list(dict.fromkeys([*best, *(means or {}), *(bands or {})]))
    if not keys:
        return empty_figure("No trial has finished an epoch yet.")
    styles = block_styles(block for block, _ in keys)
    depths = sorted({depth for _, depth in keys})
    groups: list[Any] = depths if panel == "depth" else list(styles)
    titles = [f"depth {depth}" for depth in depths] if panel == "depth" else list(styles)
    losses = [each for curve in (*best.values(), *(means or {}).values()) for each in for_log_axis(curve[1]).ravel()]
    x_axis = {"title": {"text": "time (epochs)"}, "rangemode": "tozero"}
    figure = small_multiples(titles, [x_axis] * len(groups), log_axis(loss_name, losses))
    named: set[str] = set()
    for block, depth in sorted(keys, key=lambda key: (list(styles).index(key[0]), key[1])):
        number = groups.index(depth if panel == "depth" else block)
        style = styles[block]
        if panel == "block":
            style = MarkerStyle(style.color, DEPTH_SYMBOLS[depths.index(depth) % len(DEPTH_SYMBOLS)])
        name = label(block if panel == "depth" else f"depth {depth}")
        x, y = axes_of(number)
        for trace in _traces((block, depth), best, means or {}, bands or {}, style, markers=panel == "block"):
            # With a panel per block the depths differ in marker, not in colour: see `_legend_keys`.
            shown = panel == "depth" and name not in named
            figure.add_trace(trace.update(name=name, legendgroup=name, showlegend=shown, xaxis=x, yaxis=y))
            named.add(name)
    figure.add_traces(_legend_keys(depths if panel == "block" else [], bool(means), bool(bands)))
    return fit_legend(figure)


def _traces(
    key: Key,
    best: Mapping[Key, Curve],
    means: Mapping[Key, Curve],
    bands: Mapping[Key, Band],
    style: MarkerStyle,
    markers: bool,
) -> list[go.Scatter]:
    """Return the traces of one block and depth, the best run first, so that it is first in the legend too."""
    title = f"{label(key[0])}, depth {key[1]}"
    traces = []
    if key in best:
        line = _line(key, *best[key], title + ", best", line={"color": style.color, "width": 2.2})
        if markers:
            line.update(mode="lines+markers", marker={"symbol": style.symbol, "size": 8, "maxdisplayed": 7})
        traces.append(line)
    if key in means:
        dashed = {"color": style.color, "width": 1.6, "dash": "dash"}
        traces.append(_line(key, *means[key], title + ", mean of the best few", line=dashed))
    if key in bands:
        traces.append(_band(key, *bands[key], style))
    return traces


def _legend_keys(depths: Sequence[int], has_means: bool, has_bands: bool) -> list[go.Scatter]:
    """Return grey legend entries for markers, dashes and bands."""
    keys = [
        legend_key(f"depth {depth}", mode="lines+markers", marker={"symbol": symbol, "size": 8, "color": GREY})
        for depth, symbol in zip(depths, itertools.cycle(DEPTH_SYMBOLS), strict=False)
    ]
    if has_means:
        keys.append(legend_key("mean of the best few", mode="lines", line={"dash": "dash", "color": GREY}))
    if has_bands:
        keys.append(legend_key("range", mode="markers", marker={"symbol": "square", "size": 14, "opacity": 0.35}))
    return keys


def _line(key: Key, epochs: ArrayLike, losses: ArrayLike, title: str, line: dict[str, Any]) -> go.Scatter:
    x, y = np.asarray(epochs), for_log_axis(losses)
    _check_lengths(key, x, y)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line=line,
        connectgaps=False,
        meta=title,
        hovertemplate="%{meta}<br>epoch %{x}: %{y:.3g}<extra></extra>",
    )


def _band(key: Key, epochs: ArrayLike, lowest: ArrayLike, highest: ArrayLike, style: MarkerStyle) -> go.Scatter:
    """Return the area between the edges, with a gap where either is missing."""
    x, low, high = np.asarray(epochs), for_log_axis(lowest), for_log_axis(highest)
    _check_lengths(key, x, low, high)
    return band(x, low, high, color=style.color)


def _check_lengths(key: Key, epochs: np.ndarray[Any, Any], *series: np.ndarray[Any, Any]) -> None:
    for losses in series:
        if epochs.ndim != 1 or epochs.shape != losses.shape:
            raise ShapeError(
                f"the curve of {key[0]} at depth {key[1]} has epochs of shape {epochs.shape} and losses of shape "
                f"{losses.shape}. Pass one loss per epoch, NaN if it is missing."
            )
