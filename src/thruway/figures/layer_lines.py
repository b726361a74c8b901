"""Lines and bands of a few layers over time, with selection of layers and downsampling of steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.downsampling import Starts, evenly_spaced, group_starts, largest, mean, smallest
from thruway.figures.inputs import FloatArray, Values, as_array_like, as_increasing, layer_names
from thruway.figures.lines import band, line
from thruway.figures.panels import add_note, axes_of, empty_figure, fit_legend, label, log_axis, small_multiples
from thruway.figures.scales import layer_color

__all__ = ["MAX_LAYERS", "LayerSeries", "choose_layers", "draw_layers", "edges_as_markers", "line_in_band", "two_edges"]

MAX_LAYERS = 12  # more lines cannot be distinguished
MAX_POINTS = 1000  # per line; about the width of a page in pixels


@dataclass(frozen=True)
class LayerSeries:
    """Numbers of all layers in one panel: low, middle, high and, optionally, spread, each (layers, steps)."""

    low: FloatArray
    mid: FloatArray
    high: FloatArray
    spread: FloatArray | None = None

    def thinned(self, rows: Sequence[int], starts: Starts) -> "LayerSeries":
        """Select the layers `rows` and reduce groups of steps: low and high to extremes, mid and spread to means."""
        low, mid, high = self.low[rows], self.mid[rows], self.high[rows]
        spread = None if self.spread is None else self.spread[rows]
        if len(starts) < self.mid.shape[1]:
            low, mid, high = smallest(low, starts, 1), mean(mid, starts, 1), largest(high, starts, 1)
            spread = None if spread is None else mean(spread, starts, 1)
        return LayerSeries(low, mid, high, spread)


# Draws one layer, from the panel's series, the row, the steps, and the layer's name and colour.
DrawLayer = Callable[[LayerSeries, int, FloatArray, str, str], list[go.Scatter]]


def draw_layers(
    panels: Mapping[str, LayerSeries],
    steps: Values,
    layers: Sequence[object] | None,
    y_name: str,
    x_name: str,
    draw_layer: DrawLayer,
    keys: Sequence[go.Scatter],
    *,
    log: bool = False,
) -> go.Figure:
    """Draw the layers of all panels by `draw_layer`, with additional legend `keys` and notes on omitted layers.

    Raises:
        ShapeError: if panels, steps and layers have inconsistent shapes.
        ConfigError: if there are no panels.
    """
    if not panels:
        raise ConfigError("got an empty mapping. Pass a table, or a mapping from names to tables.")
    first_name, first = next(iter(panels.items()))
    for name, other in panels.items():
        as_array_like(other.mid, f"the table of {name!r}", first.mid, f"that of {first_name!r}")
    count, columns = first.mid.shape
    names, x = layer_names(layers, count, "layer "), as_increasing(steps, "steps", columns)
    if not first.mid.size:
        return empty_figure("Nothing to draw: no layer has values yet.")
    starts, together = group_starts(columns, MAX_POINTS)
    rows, notes = choose_layers(count)
    shown = {name: each.thinned(rows, starts) for name, each in panels.items()}
    if log:
        shown = {name: _positive(each) for name, each in shown.items()}
    y_axis = log_axis(y_name, _range(shown)) if log else {"title": {"text": y_name}}
    figure = small_multiples(list(panels), [{"title": {"text": label(x_name)}}] * len(panels), y_axis)
    for number, series in enumerate(shown.values()):
        x_axis, y_axis_name = axes_of(number)
        for place, row in enumerate(rows):
            name = label(names[row])
            traces = draw_layer(series, place, x[starts], name, layer_color(row, count))
            for trace in traces:
                trace.update(name=name, legendgroup=f"layer {row}", showlegend=False, xaxis=x_axis, yaxis=y_axis_name)
            # The legend shows the line of the layer, not its faint band.
            next(trace for trace in traces if trace.fill is None).showlegend = number == 0
            figure.add_traces(traces)
    figure.add_traces(list(keys))
    fit_legend(figure)
    if together > 1:
        notes.append(f"Each point: {together} steps, with their extremes.")
    return add_note(figure, notes)


def choose_layers(count: int) -> tuple[list[int], list[str]]:
    """Return the layers to draw out of `count`, and a note if some are omitted.

    >>> rows, notes = choose_layers(1000)
    >>> len(rows), rows[0], rows[-1], notes
    (12, 0, 999, ['12 of 1,000 layers, evenly spaced.'])
    """
    rows = evenly_spaced(count, MAX_LAYERS)
    return rows, [f"{len(rows)} of {count:,} layers, evenly spaced."] if len(rows) < count else []


def edges_as_markers(names: tuple[str, str, str]) -> DrawLayer:
    """Return a style with a middle line, markers at both edges, a faint band, and a dashed line for the spread."""

    def draw_layer(series: LayerSeries, row: int, x: FloatArray, name: str, color: str) -> list[go.Scatter]:
        few = {"symbol": "circle", "size": 6, "maxdisplayed": 24}
        titles = [f"{name}, {label(each)}" for each in names]
        faint = _faint(len(series.mid))
        traces = [
            band(x, series.low[row], series.high[row], color=color, opacity=faint),
            line(x, series.mid[row], title=titles[1], x_name="step", color=color),
            line(x, series.high[row], title=titles[2], x_name="step", color=color, width=0.8),
            line(x, series.low[row], title=titles[0], x_name="step", color=color, width=0.8),
        ]
        traces[2].update(mode="lines+markers", marker=few)
        traces[3].update(mode="lines+markers", marker=few | {"symbol": "circle-open"})
        if series.spread is not None:
            title = f"{name}, standard deviation"
            traces.append(line(x, series.spread[row], title=title, x_name="step", color=color, line_dash="dash"))
        return traces

    return draw_layer


def line_in_band(series: LayerSeries, row: int, x: FloatArray, name: str, color: str) -> list[go.Scatter]:
    """Draw a line in a band."""
    return [
        band(x, series.low[row], series.high[row], color=color),
        line(x, series.mid[row], title=name, x_name="step", color=color),
    ]


def two_edges(series: LayerSeries, row: int, x: FloatArray, name: str, color: str) -> list[go.Scatter]:
    """Draw a line at either edge of a faint band."""
    return [
        band(x, series.low[row], series.high[row], color=color, opacity=_faint(len(series.mid))),
        line(x, series.high[row], title=name, x_name="step", color=color, width=1.6),
        line(x, series.low[row], title=name, x_name="step", color=color, width=1.6),
    ]


def _faint(count: int) -> float:
    """Return an opacity at which lines remain visible under `count` overlapping bands."""
    return min(0.1, 0.25 / count)


def _positive(series: LayerSeries) -> LayerSeries:
    """Replace numbers without a logarithm by NaN."""
    low, mid, high = (np.where(each > 0, each, np.nan) for each in (series.low, series.mid, series.high))
    spread = None if series.spread is None else np.where(series.spread > 0, series.spread, np.nan)
    return LayerSeries(low, mid, high, spread)


def _range(panels: Mapping[str, LayerSeries]) -> list[float]:
    """Return the minimum and maximum of all numbers, for a logarithmic axis."""
    tables = [table for each in panels.values() for table in (each.low, each.mid, each.high, each.spread)]
    known = np.concatenate([table[np.isfinite(table)] for table in tables if table is not None])
    return [float(known.min()), float(known.max())] if known.size else []
