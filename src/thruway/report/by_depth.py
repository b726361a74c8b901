"""Figure of the final loss against depth, for each kind of block."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from thruway.figures.panels import empty_figure, fit_legend, legend_key, small_multiples
from thruway.figures.theme import GREY, MarkerStyle, block_styles, label, log_axis
from thruway.report.losses import diverged_level, for_log_axis, has_diverged

__all__ = ["best_by_seed", "final_loss_by_depth"]

Row = Mapping[str, Any]
SIDESTEP = 0.035  # horizontal offset between the trials of different blocks, as a share of the depth


def final_loss_by_depth(rows: Sequence[Row], *, loss_name: str = "final training cross-entropy (nats)") -> go.Figure:
    """The best final loss of each block at each depth, and every trial.

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
        figure.add_trace(_line(block, [best.get(depth, []) for depth in depths], depths, style, shifts[block]))
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


def _line(
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
