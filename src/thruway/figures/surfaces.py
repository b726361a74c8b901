"""Surface plots of a cost over two weights."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.downsampling import evenly_spaced
from thruway.figures.inputs import Values, as_increasing, as_layer_table
from thruway.figures.panels import add_margins, add_note, empty_figure, label
from thruway.figures.scales import shades
from thruway.figures.theme import BLOCK_STYLES, OTHER_STYLES, TEMPLATE

__all__ = ["surface"]

MAX_POINTS = 200  # per axis; more points are not visible on a screen
# Distinguishable for every kind of colour vision, in the order of use.
COLORS = (
    BLOCK_STYLES["highway"].color,
    BLOCK_STYLES["plain"].color,
    BLOCK_STYLES["residual"].color,
    OTHER_STYLES[0].color,
)
HOVER = "%{meta[0]}<br>%{meta[1]}: %{x:.3g}<br>%{meta[2]}: %{y:.3g}<br>%{meta[3]}: %{z:.4g}<extra></extra>"


def surface(
    x: Values,
    y: Values,
    z: Values | Mapping[str, Values],
    *,
    x_name: str,
    y_name: str,
    z_name: str,
) -> go.Figure:
    """Plot one or several surfaces over the same two axes, in a 3-D scene that can be rotated.

    More than 200 points along an axis are reduced to 200 evenly spaced ones; a note in the figure says so. The
    browser needs WebGL.

    Args:
        x: (columns,), increasing, such as values of the first weight.
        y: (rows,), increasing, such as values of the second weight.
        z: a table (rows, columns), or a mapping from names to up to four tables. NaN is a hole.
        x_name, y_name, z_name: titles of the axes, with units.
    Raises:
        ShapeError: if x, y and z have inconsistent shapes.
        ConfigError: if x or y does not increase, or there are more than four surfaces.
    Source:
        Glorot & Bengio 2010, fig. 5: cross-entropy and quadratic cost over two weights.

    >>> costs = {"cross-entropy": [[1, 2], [3, 4]], "quadratic": [[0, 1], [1, 2]]}
    >>> figure = surface([-1, 1], [-1, 1], costs, x_name="W1", y_name="W2", z_name="cost (nats)")
    >>> [(each.name, each.z.tolist()) for each in figure.data]
    [('cross-entropy', [[1.0, 2.0], [3.0, 4.0]]), ('quadratic', [[0.0, 1.0], [1.0, 2.0]])]
    """
    tables = dict(z) if isinstance(z, Mapping) else {"": z}
    if len(tables) > len(COLORS):
        raise ConfigError(
            f"got {len(tables)} surfaces, and more than {len(COLORS)} hide one another. Draw several figures."
        )
    heights = {
        name: as_layer_table(each, f"z of {name!r}" if name else "z", "columns") for name, each in tables.items()
    }
    if not heights or not all(each.size for each in heights.values()):
        return empty_figure("Nothing to draw: the surface has no points.")
    notes: list[str] = []
    figure = go.Figure(layout={"template": TEMPLATE, "height": 560, "margin": {"l": 0, "r": 40, "t": 40, "b": 8}})
    for (name, table), color in zip(heights.items(), COLORS, strict=False):
        rows, columns = table.shape
        across, along = as_increasing(x, "x", columns), as_increasing(y, "y", rows)
        kept_rows, kept_columns = evenly_spaced(rows, MAX_POINTS), evenly_spaced(columns, MAX_POINTS)
        if len(kept_rows) < rows or len(kept_columns) < columns:
            notes = [f"{len(kept_columns)} x {len(kept_rows)} of {columns:,} x {rows:,} points, evenly spaced."]
        figure.add_surface(
            x=across[kept_columns],
            y=along[kept_rows],
            z=table[np.ix_(kept_rows, kept_columns)].astype(np.float32),
            name=label(name),
            showlegend=len(tables) > 1,
            showscale=False,
            colorscale=shades(color),
            # Diffuse light shows the shape; specular highlights would hide the colour.
            lighting={"ambient": 0.75, "diffuse": 0.6, "specular": 0.05, "roughness": 0.9},
            contours={"z": {"show": True, "color": "rgba(255,255,255,0.35)", "width": 1}},
            meta=[label(name), label(x_name), label(y_name), label(z_name)],
            hovertemplate=HOVER,
        )
    axes = {"xaxis": x_name, "yaxis": y_name, "zaxis": z_name}
    figure.update_layout(
        scene={axis: {"title": {"text": label(text)}, "nticks": 6} for axis, text in axes.items()}
        | {
            "aspectratio": {"x": 1.15, "y": 1.15, "z": 0.8},
            "camera": {"center": {"x": 0, "y": 0, "z": -0.25}},
        },
        meta={
            "wide": {"height": 560, "margin.t": 40, "margin.b": 8, "margin.r": 40, "scene.camera.eye": _eye(1.7)},
            "narrow": {"height": 400, "margin.t": 40, "margin.b": 8, "margin.r": 0, "scene.camera.eye": _eye(2.1)},
        },
    )
    add_margins(figure)
    return add_note(figure, notes)


def _eye(distance: float) -> dict[str, float]:
    """Return the camera position, slightly off the diagonal so that neither axis hides the other."""
    return {"x": 0.95 * distance, "y": 0.6 * distance, "z": 0.45 * distance}
