"""Heat map of one quantity: layers by steps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.downsampling import downsample, evenly_spaced, group_starts
from thruway.figures.inputs import FloatArray, Values, as_increasing, as_layer_table, layer_names
from thruway.figures.panels import add_margins, add_note, axis_title, empty_figure, label, small_multiples
from thruway.figures.scales import DIVERGING, SEQUENTIAL, log_scale, log_ticks
from thruway.figures.ticks import shortened

__all__ = ["heat_map"]

MAX_COLUMNS = 600  # about the width of a page; more would only make the file larger
MAX_ROWS = 1000
ROUND_ABOVE = 50_000  # cells: above this size numbers are rounded to four digits, so that the report compresses well
GAP = "rgba(128, 134, 145, 0.5)"  # background of the cells; no scale has this grey
BAR_ROOM = 58  # pixels of the colour bar above the map


def heat_map(
    values: Values,
    steps: Values,
    layers: Sequence[object] | None = None,
    *,
    quantity: str,
    unit: str = "",
    title: str = "",
    log: bool = False,
    diverging: bool = False,
    keep: str = "largest",
    x_name: str = "training time (steps)",
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
) -> go.Figure:
    """Plot a heat map of layers by steps, first layer at the bottom, for two to thousands of layers.

    Beyond 600 steps or 1,000 layers, neighbours share a cell, which shows the largest of its numbers, so that a
    single spike stays visible; a note in the figure says so. A cell without a finite number is grey.

    Args:
        values: (layers, steps), in `unit`.
        steps: (steps,), increasing: the step of each column.
        layers: names of the layers, from the first to the last. If None, numbers from 1.
        quantity: name of the quantity, such as "gradient norm".
        unit: unit of the quantity; empty for a dimensionless number.
        title: title above the map.
        log: If True, colour by the logarithm; 0 gets the lowest colour.
        diverging: If True, colour by sign, with 0 in the middle of the scale; "largest" then means farthest from 0.
        keep: number shown by a shared cell: "largest", "smallest", "farthest from 0" or "mean".
        x_name: title of the axis of steps.
        max_rows, max_columns: numbers of cells above which neighbours share one.
    Raises:
        ShapeError: if values, steps and layers do not fit together.
        ConfigError: if `log` is combined with negative values or with `diverging`, or `keep` is unknown.
    Source:
        Ours.

    >>> figure = heat_map([[0.1, 0.2], [0.3, None]], steps=[0, 10], quantity="saturation", unit="share of units")
    >>> figure.data[0].z
    array([[0.1, 0.2],
           [0.3, nan]], dtype=float32)
    """
    table = as_layer_table(values, "values")
    names = layer_names(layers, table.shape[0])
    x = as_increasing(steps, "steps", table.shape[1])
    if log and diverging:
        raise ConfigError("pass log or diverging, not both: negative numbers have no logarithm.")
    if log and bool((table < 0).any()):
        raise ConfigError(f"log=True needs values of 0 or more, got {np.nanmin(table):.3g}. Use diverging=True.")
    if not table.size:
        return empty_figure("Nothing to draw: no layer has values yet.")
    keep = "farthest from 0" if diverging and keep == "largest" else keep
    columns, steps_per_cell = group_starts(len(x), max_columns)
    rows, layers_per_cell = group_starts(len(names), max_rows)
    cells = _compact(downsample(downsample(table, columns, keep, axis=1), rows, keep, axis=0))
    x, names = x[columns], _row_names(names, rows)

    x_axis = {"title": {"text": label(x_name)}}
    figure = small_multiples([title], [x_axis], _layer_axis(names), height=_height(len(names)))
    figure.add_trace(
        go.Heatmap(
            x=x,
            y=[_whole(name) for name in names],
            z=cells,
            coloraxis="coloraxis",
            hoverongaps=False,
            meta=[label(quantity), label(unit)],
            hovertemplate="%{y}<br>step %{x}<br>%{meta[0]} %{z:.4g} %{meta[1]}<extra></extra>",
        )
    )
    figure.update_layout(plot_bgcolor=GAP, xaxis_showgrid=False, yaxis_showgrid=False)
    _colour(figure, cells, axis_title(quantity, unit), log, diverging)
    meta = dict(figure.layout.meta)
    bar = "coloraxis2.colorbar.len" if log else "coloraxis.colorbar.len"
    meta["wide"] = {**meta["wide"], "yaxis.ticktext": _tick_text(names, 28), bar: 0.5}
    meta["narrow"] = {**meta["narrow"], "yaxis.ticktext": _tick_text(names, 12), bar: 0.85}
    figure.layout.meta = meta
    add_margins(figure, above=BAR_ROOM)
    notes = []
    if steps_per_cell > 1:
        notes.append(f"Each column: the {_kept(keep)} of {steps_per_cell} steps.")
    if layers_per_cell > 1:
        notes.append(f"Each row: the {_kept(keep)} of {layers_per_cell} layers.")
    if np.isnan(cells).any():
        notes.append("Grey: no finite number.")
    return add_note(figure, notes)


def _kept(keep: str) -> str:
    return "number farthest from 0" if keep == "farthest from 0" else keep


def _row_names(names: Sequence[str], starts: np.ndarray[Any, Any]) -> list[str]:
    """Name each row after its first and its last layer."""
    ends = [*starts[1:].tolist(), len(names)]
    pairs = ((names[start], names[end - 1]) for start, end in zip(starts.tolist(), ends, strict=True))
    return [first if first == last else f"{first} – {last}" for first, last in pairs]


def _height(rows: int) -> int:
    """Return the height of the map in pixels: an integer number per row, or the browser would skip rows."""
    return rows * max(1, round(420 / rows))


def _layer_axis(names: Sequence[str]) -> dict[str, Any]:
    shown = _ticked(names)
    return {
        "title": {"text": "layer (first at the bottom)"},
        "type": "category",
        "range": [-0.5, len(names) - 0.5],
        "tickvals": [_whole(names[row]) for row in shown],
        "ticktext": _tick_text(names, 28),
        "automargin": True,
    }


def _whole(name: str) -> str:
    """Return the full name as a category of the axis, since shortened names could be equal and share a row."""
    return label(name, longest=len(name))


def _ticked(names: Sequence[str]) -> list[int]:
    return evenly_spaced(len(names), 15)


def _tick_text(names: Sequence[str], longest: int) -> list[str]:
    return shortened([names[row] for row in _ticked(names)], longest)


def _compact(cells: FloatArray) -> FloatArray:
    """Convert the cells to float32 if their range allows, and round the numbers of large maps."""
    size = np.abs(cells[np.isfinite(cells) & (cells != 0)])
    limits = np.finfo(np.float32)
    if size.size == 0 or (size.max() < limits.max and size.min() > limits.tiny):
        cells = cells.astype(np.float32)
    if cells.size > ROUND_ABOVE:
        fraction, exponent = np.frexp(cells)
        cells = np.ldexp(np.rint(fraction * 2**13) / 2**13, exponent)  # relative error of at most 1 in 8,192
    return cells


def _colour(figure: go.Figure, cells: FloatArray, name: str, log: bool, diverging: bool) -> None:
    """Add the colour scale and a horizontal colour bar above the map."""
    known = cells[np.isfinite(cells)].astype(np.float64)
    bar = {
        "orientation": "h",
        "title": {"text": name, "side": "top"},
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yref": "container",
        "yanchor": "top",
        "len": 0.5,
        "thickness": 10,
        "outlinewidth": 0,
        "xpad": 0,
        "ypad": 6,
        "ticks": "outside",
        "ticklen": 3,
        "tickangle": 0,
    }
    if log:
        positive = known[known > 0]
        low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 10.0)
        if high < 1.01 * low:
            low, high = low / 3, high * 3
        ticks = log_ticks(low, high)
        # The bar belongs to a second colour axis, of the logarithms; the map's axis is linear with transformed stops.
        figure.update_layout(
            coloraxis={"cmin": low, "cmax": high, "colorscale": log_scale(low, high, SEQUENTIAL), "showscale": False},
            coloraxis2={
                "cmin": math.log10(low),
                "cmax": math.log10(high),
                "colorscale": list(SEQUENTIAL),
                "colorbar": bar | {"tickvals": [math.log10(t) for t in ticks], "ticktext": [_power(t) for t in ticks]},
            },
        )
        figure.add_scatter(
            x=[None], y=[None], mode="markers", marker={"color": [0], "coloraxis": "coloraxis2"}, showlegend=False
        )
        return
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if diverging:
        high = max(-low, high) or 1.0
        low = -high
    elif low == high:
        low, high = low - 0.5, high + 0.5
    scale = list(DIVERGING if diverging else SEQUENTIAL)
    figure.update_layout(coloraxis={"cmin": low, "cmax": high, "colorscale": scale, "colorbar": bar | {"nticks": 7}})


def _power(value: float) -> str:
    """Format a tick such as 0.01, 500 or 10⁻⁷."""
    digits, exponent = f"{value:.2e}".split("e")
    if -3 <= int(exponent) <= 4:
        return f"{float(digits) * 10 ** int(exponent):g}"
    times = "" if float(digits) == 1 else f"{float(digits):g}·"
    return f"{times}10<sup>{int(exponent)}</sup>".replace("-", "−")
