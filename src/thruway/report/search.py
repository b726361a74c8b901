"""Trials of a random search: a table of final losses, and a figure of the loss against each hyper-parameter."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

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
from thruway.report.content import Cell, TableData
from thruway.report.html import format_value

__all__ = [
    "HYPERPARAMETERS",
    "LOSS_FLOOR",
    "Hyperparameter",
    "diverged_level",
    "final_loss_table",
    "for_log_axis",
    "has_diverged",
    "search_scatter",
]

Row = Mapping[str, Any]

# A float32 cross-entropy below about 1e-8 is indistinguishable from 0, and 0 has no logarithm.
LOSS_FLOOR = 1e-8


def for_log_axis(losses: ArrayLike) -> NDArray[np.float64]:
    """Prepare losses for a log axis: NaN and infinity become NaN, values below `LOSS_FLOOR` become `LOSS_FLOOR`.

    >>> for_log_axis([0.5, 0.0, float("inf")])
    array([5.e-01, 1.e-08, nan])
    """
    values = np.asarray(losses, dtype=np.float64)
    return np.where(np.isfinite(values), np.maximum(values, LOSS_FLOOR), np.nan)


def has_diverged(row: Row) -> bool:
    """Return True if a trial is marked as diverged or its final loss is missing or not finite.

    >>> has_diverged({"final_loss": 0.1}), has_diverged({"final_loss": float("nan")}), has_diverged({"diverged": True})
    (False, True, True)
    """
    loss = row.get("final_loss")
    return bool(row.get("diverged")) or loss is None or not math.isfinite(loss)


def diverged_level(losses: Iterable[float]) -> float:
    """Return the height at which diverged trials are drawn, above every finite loss.

    >>> round(diverged_level([0.01, 1.0]), 3)
    2.512
    """
    finite = [math.log10(max(loss, LOSS_FLOOR)) for loss in losses if math.isfinite(loss)]
    if not finite:
        return 1.0
    return float(10 ** (max(finite) + max(0.15, 0.2 * (max(finite) - min(finite)))))


def final_loss_table(rows: Sequence[Row], *, top: int = 10) -> TableData:
    """Return a table of all blocks and depths: best trial, mean of the best few, number of diverged trials, and cost.

    The best final loss of each depth is highlighted.

    Args:
        rows: one mapping per trial with `block`, `depth`, `final_loss`, and optionally `diverged` and `seconds`.
        top: number of best trials in the mean, or fewer if not as many converged.
    Source:
        Best of the search and mean of the top 10: Srivastava, Greff & Schmidhuber 2015, fig. 1.

    >>> rows = [{"block": "plain", "depth": 10, "final_loss": loss} for loss in (0.5, 0.1, float("nan"))]
    >>> final_loss_table(rows).rows
    ((10, 'plain', 0.1, 0.3, 3, Cell(value=1, mark='diverged'), None),)
    """
    order = list(block_styles(row["block"] for row in rows))
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["depth"], order.index(row["block"])), []).append(row)
    losses = {key: sorted(row["final_loss"] for row in each if not has_diverged(row)) for key, each in groups.items()}
    table = []
    for depth, block in sorted(groups):
        kept = losses[depth, block]
        rivals = [other[0] for (other_depth, _), other in losses.items() if other_depth == depth and other]
        diverged = len(groups[depth, block]) - len(kept)
        best: Any = kept[0] if kept else Cell(None, "diverged")
        if kept and len([key for key in groups if key[0] == depth]) > 1 and best == min(rivals):
            best = Cell(best, "best")
        seconds = [row["seconds"] for row in groups[depth, block] if row.get("seconds") is not None]
        table.append(
            (
                depth,
                order[block],
                best,
                statistics.fmean(kept[:top]) if kept else None,
                len(groups[depth, block]),
                Cell(diverged, "diverged") if diverged else 0,
                statistics.fmean(seconds) if seconds else None,
            )
        )
    columns = ("depth", "block", "best final loss", f"mean of best {top}", "trials", "diverged", "seconds per trial")
    return TableData(columns, tuple(table), "Final training loss in nats; the best of each depth is marked.")


@dataclass(frozen=True)
class Hyperparameter:
    """A hyper-parameter of the search: its key in the rows, its axis title, and True for a logarithmic axis."""

    key: str
    name: str
    log: bool = False


# The search of Srivastava, Greff & Schmidhuber 2015, in its order. Keys that no row has are omitted.
HYPERPARAMETERS = (
    Hyperparameter("learning_rate", "learning rate (per step)", log=True),
    Hyperparameter("momentum", "momentum (share kept per step)"),
    Hyperparameter("decay", "decay (factor per epoch)"),
    Hyperparameter("activation", "activation of H"),
    Hyperparameter("gate_bias", "initial gate bias (pre-activation)"),
)


def search_scatter(
    rows: Sequence[Row],
    *,
    depth: int | None = None,
    hyperparameters: Sequence[Hyperparameter] = HYPERPARAMETERS,
    loss_name: str = "final loss (nats)",
) -> go.Figure:
    """Plot the final loss of every trial against each hyper-parameter, with one panel per hyper-parameter.

    Deeper networks have larger marks. A diverged trial is a cross on the dotted line above.

    Args:
        rows: one mapping per trial with `block`, `depth`, `final_loss` and the hyper-parameters.
        depth: If given, draw only the trials of this depth.
        hyperparameters: hyper-parameters of the panels, in order.
        loss_name: title of the loss axis, which is logarithmic.
    Returns:
        A Plotly figure.
    Source:
        The search space is that of Srivastava, Greff & Schmidhuber 2015, sec. 3.1; the figure is ours.

    >>> figure = search_scatter([{"block": "plain", "depth": 10, "final_loss": 0.1, "learning_rate": 0.01}])
    >>> figure.layout.xaxis.title.text
    'learning rate (per step)'
    """
    chosen = [row for row in rows if depth is None or row["depth"] == depth]
    panels = [each for each in hyperparameters if any(row.get(each.key) is not None for row in chosen)]
    if not panels:
        return empty_figure("No trial of this search has finished yet.")
    depths = sorted({row["depth"] for row in chosen})
    finite = [float(for_log_axis(row["final_loss"])) for row in chosen if not has_diverged(row)]
    height = diverged_level(finite)
    any_diverged = any(has_diverged(row) for row in chosen)
    styles = block_styles(row["block"] for row in chosen)
    categories = [_categories(chosen, each.key) for each in panels]
    x_axes = [_x_axis(each, names, chosen) for each, names in zip(panels, categories, strict=True)]
    figure = small_multiples([""] * len(panels), x_axes, log_axis(loss_name, finite))
    for number, (each, names) in enumerate(zip(panels, categories, strict=True)):
        x, y = axes_of(number)
        for order, (block, style) in enumerate(styles.items()):
            own = [row for row in chosen if row["block"] == block and row.get(each.key) is not None]
            place = _sidestep(order, len(styles))
            diverged = [has_diverged(row) for row in own]
            figure.add_scatter(
                x=[names.index(str(row[each.key])) + place if names else row[each.key] for row in own],
                y=[
                    height if is_diverged else float(for_log_axis(row["final_loss"]))
                    for row, is_diverged in zip(own, diverged, strict=True)
                ],
                mode="markers",
                marker={
                    "color": style.color,
                    "symbol": ["x" if is_diverged else style.symbol for is_diverged in diverged],
                    "size": [7 + 5 * depths.index(row["depth"]) / max(1, len(depths) - 1) for row in own],
                    "opacity": 0.72,
                    "line": {"width": 0},
                },
                customdata=[[_trial(row, hyperparameters)] for row in own],
                hovertemplate="%{customdata[0]}<extra></extra>",
                name=label(block),
                legendgroup=label(block),
                showlegend=False,
                xaxis=x,
                yaxis=y,
            )
        if any_diverged:
            figure.add_shape(
                type="line",
                xref=f"{x} domain",
                yref=y,
                x0=0,
                x1=1,
                y0=height,
                y1=height,
                line={"color": GREY, "width": 1, "dash": "dot"},
            )
    figure.add_traces(_legend_keys(styles, any_diverged, len(depths) > 1))
    return fit_legend(figure)


def _legend_keys(blocks: Mapping[str, MarkerStyle], any_diverged: bool, sizes: bool) -> list[go.Scatter]:
    """Return the legend of the marks; a click on a block hides it in every panel."""
    keys = [
        legend_key(
            block, legendgroup=label(block), mode="markers", marker={"symbol": style.symbol, "color": style.color}
        )
        for block, style in blocks.items()
    ]
    if any_diverged:
        keys.append(legend_key("diverged", mode="markers", marker={"symbol": "x", "size": 8}))
    if sizes:
        keys.append(legend_key("larger: deeper", mode="markers", marker={"symbol": "circle-open", "size": 10}))
    return keys


def _categories(rows: Sequence[Row], key: str) -> list[str]:
    """Return the sorted values of a categorical hyper-parameter; an empty list if it is numeric."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return sorted({str(value) for value in values}) if any(isinstance(value, str) for value in values) else []


def _x_axis(each: Hyperparameter, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": label(each.name)}}
    if names:
        # Numeric positions instead of Plotly's categories, so that blocks can be drawn side by side.
        return axis | {
            "tickvals": list(range(len(names))),
            "ticktext": [label(name, longest=16) for name in names],
            "range": [-0.5, len(names) - 0.5],
        }
    if each.log:
        return log_axis(each.name, [row[each.key] for row in rows if row.get(each.key) is not None])
    return axis


def _sidestep(order: int, count: int) -> float:
    return float(np.linspace(-0.22, 0.22, count)[order]) if count > 1 else 0.0


def _trial(row: Row, hyperparameters: Sequence[Hyperparameter]) -> str:
    """Return the hover text: the trial, its loss and its hyper-parameters."""
    lines = [f"{label(row['block'])}, depth {row['depth']}, trial {label(row.get('trial', '–'))}"]
    lines.append("diverged" if has_diverged(row) else f"final loss {format_value(row['final_loss'])}")
    lines += [
        f"{label(each.key.replace('_', ' '))} {label(format_value(row[each.key]))}"
        for each in hyperparameters
        if row.get(each.key) is not None
    ]
    return "<br>".join(lines)
