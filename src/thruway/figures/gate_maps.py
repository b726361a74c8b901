"""Heat maps of several quantities side by side: layers by units."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.figures.downsampling import downsample, evenly_spaced, group_starts
from thruway.figures.inputs import FloatArray, Values, as_layer_table, layer_names
from thruway.figures.panels import RIGHT, add_margins, add_note, axes_of, empty_figure, label, small_multiples
from thruway.figures.scales import DIVERGING, SEQUENTIAL
from thruway.figures.ticks import shortened

__all__ = ["gate_maps"]

MAX_MAPS = 4  # in one row; with a fifth each would be too narrow to read
MAX_COLUMNS = 600  # of all maps together, about the width of a page
MAX_ROWS = 1000
GAP = "rgba(128, 134, 145, 0.5)"  # background of the cells; no scale has this grey
COLUMN_GAP = 0.025  # share of the width; only the first map has layer names
BAR_ROOM = 34  # pixels between a map's title and the map
NARROW_GAP = 120  # pixels: tick labels and axis title above, the next map's title and colour bar below

Limits = tuple[float, float]


def gate_maps(
    maps: Mapping[str, Values],
    layers: Sequence[object] | None = None,
    *,
    diverging: Collection[str] = (),
    limits: Mapping[str, Limits] | None = None,
    x_name: str = "unit",
) -> go.Figure:
    """Plot up to four maps of layers by units in one row, first layer at the bottom, each with its own colour bar.

    If the maps together have more than 600 units, or more than 1,000 layers, neighbours share a cell, which shows the
    number farthest from 0; a note in the figure says so. A cell without a finite number is grey.

    Args:
        maps: maps (layers, units) by name, such as the bias of every gate; all of the same shape.
        layers: names of the layers, from the first to the last. If None, numbers from 1.
        diverging: names of the maps to colour by sign, with 0 in the middle of the scale.
        limits: (lowest, highest) value of the scale by name of a map, to compare maps. By default a scale ranges from
            the lowest to the highest number of its map.
        x_name: title of the axis of units.
    Raises:
        ShapeError: if the maps differ in shape, or `layers` has the wrong length.
        ConfigError: if there are more than four maps, limits do not increase, or `diverging` or `limits` has an unknown
            name.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), figs. 2 and 3.

    >>> figure = gate_maps({"gate bias": [[-2, -3], [-2.5, -4]], "mean gate": [[0.1, 0], [0, 0.3]]})
    >>> [each.z.shape for each in figure.data], figure.layout.coloraxis.cmin, figure.layout.coloraxis2.cmax
    ([(2, 2), (2, 2)], -4.0, 0.30000001192092896)
    """
    limits = limits or {}
    if len(maps) > MAX_MAPS:
        raise ConfigError(f"got {len(maps)} maps, and at most {MAX_MAPS} fit in a row. Draw several figures.")
    for name in (*diverging, *limits):
        if name not in maps:
            raise ConfigError(unknown_name("map", name, maps))
    tables = {name: as_layer_table(each, f"the map of {name!r}", "units") for name, each in maps.items()}
    if not tables or not all(table.size for table in tables.values()):
        return empty_figure("Nothing to draw: no layer has units yet.")
    shape = _one_shape(tables)
    rows, layers_per_cell = group_starts(shape[0], MAX_ROWS)
    columns, units_per_cell = group_starts(shape[1], MAX_COLUMNS // len(tables))
    names = [_whole(name) for name in np.array(layer_names(layers, shape[0]), dtype=object)[rows]]
    height = _height(len(names))
    figure = _panels(len(tables), x_name, _layer_axis(names), height)
    for number, (name, table) in enumerate(tables.items()):
        cells = downsample(downsample(table, columns, "farthest from 0", axis=1), rows, "farthest from 0", axis=0)
        cells = cells.astype(np.float32)
        _draw(figure, number, name, cells, columns, names)
        low, high = _limits(name, cells, name in diverging, limits.get(name))
        scale = list(DIVERGING if name in diverging else SEQUENTIAL)
        bar = _bar(label(name, longest=30))
        figure.layout[_coloraxis(number)] = {"cmin": low, "cmax": high, "colorscale": scale, "colorbar": bar}
    figure.update_layout(plot_bgcolor=GAP)
    notes = []
    if units_per_cell > 1:
        notes.append(f"Each column: {units_per_cell} units, the number farthest from 0.")
    if layers_per_cell > 1:
        notes.append(f"Each row: {layers_per_cell} layers, the number farthest from 0.")
    if any(np.isnan(table).any() for table in tables.values()):
        notes.append("Grey: no finite number.")
    _arrange(figure, len(tables), height)
    return add_note(figure, notes)


def _one_shape(tables: Mapping[str, FloatArray]) -> tuple[int, int]:
    first, *others = tables
    for other in others:
        if tables[other].shape != tables[first].shape:
            raise ShapeError(
                f"the map of {first!r} has shape {tables[first].shape} and that of {other!r} {tables[other].shape}. "
                "Pass all maps for the same layers and units; use NaN for missing numbers."
            )
    return tables[first].shape[0], tables[first].shape[1]


def _limits(name: str, cells: FloatArray, is_diverging: bool, given: Limits | None) -> Limits:
    if given is not None:
        if not given[0] < given[1]:
            raise ConfigError(f"the limits of {name!r} must be (lowest, highest) with lowest < highest, got {given}.")
        return given
    known = cells[np.isfinite(cells)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if is_diverging:
        high = max(-low, high) or 1.0
        return -high, high
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _height(rows: int) -> int:
    """Return the height of a map in pixels: an integer number per row, since the browser would otherwise skip rows."""
    return rows * max(1, round(400 / rows))


def _whole(name: str) -> str:
    """Return the full name as a category of the axis, since shortened names could be equal and share a row."""
    return label(name, longest=len(name))


def _layer_axis(names: Sequence[str]) -> dict[str, Any]:
    shown = [names[row] for row in evenly_spaced(len(names), 12)]
    return {
        "title": {"text": "layer (first at the bottom)"},
        "type": "category",
        "range": [-0.5, len(names) - 0.5],
        "tickvals": shown,
        "ticktext": shortened(shown, 12),
        "showgrid": False,
    }


def _draw(
    figure: go.Figure, number: int, name: str, cells: FloatArray, columns: np.ndarray[Any, Any], names: Sequence[str]
) -> None:
    x, y = axes_of(number)
    figure.add_trace(
        go.Heatmap(
            x=columns + 1,
            y=names,
            z=cells,
            coloraxis=_coloraxis(number),
            xaxis=x,
            yaxis=y,
            hoverongaps=False,
            meta=label(name),
            hovertemplate="%{meta}<br>layer %{y}, unit %{x}<br>%{z:.4g}<extra></extra>",
        )
    )


def _coloraxis(number: int) -> str:
    return "coloraxis" if number == 0 else f"coloraxis{number + 1}"


def _bar(name: str) -> dict[str, Any]:
    """Return the colour bar of a map; `_arrange` sets its position and width."""
    return {
        "orientation": "h",
        "title": {"text": f"<b>{name}</b>", "side": "top"},
        "xanchor": "left",
        "yanchor": "bottom",
        "thickness": 8,
        "outlinewidth": 0,
        "xpad": 0,
        "ypad": 4,
        "nticks": 4,
        "ticks": "outside",
        "ticklen": 3,
        "tickangle": 0,
        "tickfont": {"size": 11},
    }


def _panels(count: int, x_name: str, y_axis: dict[str, Any], height: int) -> go.Figure:
    x_axis = {"title": {"text": label(x_name)}, "showgrid": False, "nticks": 6}
    return small_multiples([""] * count, [x_axis] * count, y_axis, height=height)


def _arrange(figure: go.Figure, count: int, height: int) -> None:
    """Arrange the maps in one row on a wide screen and in one column on a narrow one, with space for colour bars."""
    meta = dict(figure.layout.meta)
    for kind, per_row, gap in (("wide", count, 0), ("narrow", 1, NARROW_GAP)):
        rows = count // per_row
        inner = rows * height + (rows - 1) * gap
        width = (1 - (per_row - 1) * COLUMN_GAP) / per_row
        paths = {**meta[kind], "height": inner + meta[kind]["margin.t"] + meta[kind]["margin.b"]}
        paths["margin.r"] = RIGHT[kind]
        for number in range(count):
            row, column = divmod(number, per_row)
            left, top = column * (width + COLUMN_GAP), 1 - row * (height + gap) / inner
            x, y = (f"{axis[0]}axis{axis[1:]}" for axis in axes_of(number))
            paths[f"{x}.domain"] = [left, min(1.0, left + width)]
            paths[f"{y}.domain"] = [max(0.0, top - height / inner), top]
            # The shared labels of a row are shown at its first map only.
            paths[f"{y}.showticklabels"] = column == 0
            paths[f"{y}.title.text"] = figure.layout.yaxis.title.text if column == 0 else ""
            bar = f"{_coloraxis(number)}.colorbar"
            paths |= {f"{bar}.x": left, f"{bar}.y": top, f"{bar}.len": width}
        meta[kind] = paths
    figure.layout.meta = meta
    add_margins(figure, above=BAR_ROOM)
