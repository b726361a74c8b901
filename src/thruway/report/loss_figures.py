"""Figures of the training loss against epochs and against depth, for each kind of block."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.figures.lines import band
from thruway.figures.panels import (
    axes_of,
    block_styles,
    empty_figure,
    fit_legend,
    label,
    legend_key,
    log_axis,
    small_multiples,
)
from thruway.figures.theme import GREY, MarkerStyle
from thruway.report.search import diverged_level, for_log_axis, has_diverged

__all__ = ["best_by_seed", "final_loss_by_depth", "loss_curves"]

Row = Mapping[str, Any]
Key = tuple[str, int]  # block, depth
Curve = tuple[ArrayLike, ArrayLike]  # epochs, losses
Band = tuple[ArrayLike, ArrayLike, ArrayLike]  # epochs, lowest, highest

DEPTH_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
SIDESTEP = 0.035  # horizontal offset between the trials of different blocks, as a share of the depth


def loss_curves(
    best: Mapping[Key, Curve],
    *,
    means: Mapping[Key, Curve] | None = None,
    bands: Mapping[Key, Band] | None = None,
    panel: Literal["depth", "block"] = "depth",
    loss_name: str = "training cross-entropy (nats)",
) -> go.Figure:
    """Plot the training loss against epochs, for every kind of block at every depth.

    A solid line is the best run of the search, a dashed line the mean of its best few runs, a band the range over
    seeds or runs. A line has a gap where the loss is NaN or infinite.

    Args:
        best: (epochs, losses), two sequences of the same length, by (block, depth).
        means: (epochs, losses) of the mean of the best few runs, by (block, depth).
        bands: (epochs, lowest loss, highest loss), by (block, depth).
        panel: "depth" for one panel per depth, to compare blocks, or "block" for one panel per block.
        loss_name: title of the loss axis, which is logarithmic.
    Returns:
        A Plotly figure with one panel per depth or per block.
    Raises:
        ConfigError: if `panel` is unknown.
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
    """Return the traces of one block and depth, starting with the best run, which is then the first in the legend."""
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
    """Return the area between the edges, with a gap where one of them is missing."""
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


def final_loss_by_depth(rows: Sequence[Row], *, loss_name: str = "final training cross-entropy (nats)") -> go.Figure:
    """Plot the best final loss of each block at each depth, and every trial.

    A line connects the best trials; with several seeds it connects the medians over seeds of the best losses, and error
    bars range from the best to the worst seed. Faint marks are single trials. Diverged trials are crosses on the dotted
    line above.

    Args:
        rows: one mapping per trial with `block`, `depth`, `final_loss`, and optionally `diverged`, `trial`, `seed`.
        loss_name: title of the loss axis, which is logarithmic.
    Returns:
        A Plotly figure; both axes are logarithmic.
    Source:
        Ours; the last epoch of fig. 1 of Srivastava, Greff & Schmidhuber 2015.

    >>> rows = [{"block": "plain", "depth": d, "final_loss": loss} for d, loss in ((10, 0.01), (50, 1.8))]
    >>> list(final_loss_by_depth(rows).data[-1].y)
    [0.01, 1.8]
    """
    if not rows:
        return empty_figure("No trial has finished yet.")
    depths = sorted({row["depth"] for row in rows})
    x_axis = {
        "type": "log",
        "title": {"text": "depth (hidden layers)"},
        "tickvals": depths,
        "ticktext": [str(d) for d in depths],
    }
    finite = [float(for_log_axis(row["final_loss"])) for row in rows if not has_diverged(row)]
    height = diverged_level(finite)
    figure = small_multiples([""], [x_axis], log_axis(loss_name, finite))
    styles = block_styles(row["block"] for row in rows)
    middle = (len(styles) - 1) / 2
    shifts = {block: 1 + SIDESTEP * (number - middle) for number, block in enumerate(styles)}
    for block, style in styles.items():
        figure.add_trace(_trials([row for row in rows if row["block"] == block], style, shifts[block], height))
    if any(has_diverged(row) for row in rows):
        figure.add_hline(y=height, line={"color": GREY, "width": 1, "dash": "dot"})
    for block, style in styles.items():
        best = {depth: losses for (own, depth), losses in best_by_seed(rows).items() if own == block}
        figure.add_trace(_best_line(block, [best.get(depth, []) for depth in depths], depths, style, shifts[block]))
    if any(has_diverged(row) for row in rows):
        figure.add_trace(legend_key("diverged", mode="markers", marker={"symbol": "x", "size": 8}))
    return fit_legend(figure)


def best_by_seed(rows: Sequence[Row]) -> dict[tuple[str, int], list[float]]:
    """Return the best final loss of every seed for each (block, depth), in increasing order.

    >>> best_by_seed([{"block": "plain", "depth": 10, "final_loss": x, "seed": s} for x, s in ((3, 0), (2, 0), (1, 1))])
    {('plain', 10): [1, 2]}
    """
    best: dict[tuple[str, int], dict[Any, float]] = defaultdict(dict)
    for row in rows:
        if not has_diverged(row):
            seeds = best[row["block"], row["depth"]]
            seeds[row.get("seed")] = min(row["final_loss"], seeds.get(row.get("seed"), row["final_loss"]))
    return {key: sorted(seeds.values()) for key, seeds in best.items()}


def _best_line(
    block: str, best: Sequence[Sequence[float]], depths: Sequence[int], style: MarkerStyle, shift: float
) -> go.Scatter:
    """Return the median over seeds, with a gap at depths where all trials diverged."""
    # An error bar down to a loss of 0 would be infinite on a log axis.
    losses = [for_log_axis(each).tolist() for each in best]
    middle = [statistics.median(each) if each else float("nan") for each in losses]
    bars = None
    if any(len(each) > 1 for each in losses):
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [max(each) - mid if each else 0.0 for each, mid in zip(losses, middle, strict=True)],
            "arrayminus": [mid - min(each) if each else 0.0 for each, mid in zip(losses, middle, strict=True)],
            "thickness": 1.5,
            "width": 6,
        }
    return go.Scatter(
        x=[depth * shift for depth in depths],
        y=middle,
        customdata=depths,
        error_y=bars,
        mode="lines+markers",
        line={"color": style.color, "width": 2.4},
        marker={"symbol": style.symbol, "size": 10},
        name=label(block),
        legendgroup=label(block),
        meta=label(block),
        connectgaps=False,
        hovertemplate="%{meta}, depth %{customdata}<br>best of search: %{y:.3g}<extra></extra>",
    )


def _trials(rows: Sequence[Row], style: MarkerStyle, shift: float, height: float) -> go.Scatter:
    """Return all trials of a block as faint marks, diverged ones as crosses at `height`."""
    diverged = [has_diverged(row) for row in rows]
    return go.Scatter(
        x=[row["depth"] * shift for row in rows],
        y=[
            height if is_diverged else float(for_log_axis(row["final_loss"]))
            for row, is_diverged in zip(rows, diverged, strict=True)
        ],
        mode="markers",
        marker={
            "color": style.color,
            "symbol": ["x" if is_diverged else style.symbol for is_diverged in diverged],
            "size": [8 if is_diverged else 6 for is_diverged in diverged],
            "line": {"width": 0},
            "opacity": [0.8 if is_diverged else 0.35 for is_diverged in diverged],
        },
        customdata=[
            [_trial(row), "diverged" if is_diverged else f"{row['final_loss']:.3g}"]
            for row, is_diverged in zip(rows, diverged, strict=True)
        ],
        legendgroup=label(rows[0]["block"]),
        showlegend=False,
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )


def _trial(row: Row) -> str:
    words = [f"{row['block']}, depth {row['depth']}"]
    words += [f"{key} {row[key]}" for key in ("trial", "seed") if row.get(key) is not None]
    return label(", ".join(words), longest=200)
