"""Line and band traces with gaps at NaN."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

__all__ = ["band", "line"]

Series = NDArray[np.floating[Any]]


def line(x: Series, y: Series, *, title: str, x_name: str, color: str, width: float = 2.2, **style: Any) -> go.Scatter:
    """Return a line of `y` over `x` with a gap where `y` is NaN. The hover text contains `title`, `x_name` and the
    values.

    >>> line(np.arange(2.0), np.arange(2.0), title="layer 1", x_name="step", color="#2f75dc").line.color
    '#2f75dc'
    """
    trace = go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": color, "width": width},
        marker={"color": color},
        connectgaps=False,
        meta=[title, x_name],
        hovertemplate="%{meta[0]}<br>%{meta[1]} %{x}: %{y:.3g}<extra></extra>",
    )
    return trace.update(style)


def band(x: Series, low: Series, high: Series, *, color: str, opacity: float = 0.15) -> go.Scatter:
    """Return the filled area from `low` to `high`, with a gap where either is NaN.

    >>> band(np.arange(3.0), np.zeros(3), np.ones(3), color="#2f75dc").x
    array([0., 1., 2., 2., 1., 0.])
    """
    outline_x: list[Series] = []
    outline_y: list[Series] = []
    for part in _runs(np.isfinite(low) & np.isfinite(high)):
        # One closed outline per run of numbers, separated by NaN, so that Plotly closes each on its own.
        gap = [np.full(1, np.nan)] if outline_x else []
        outline_x += [*gap, x[part], x[part][::-1]]
        outline_y += [*gap, low[part], high[part][::-1]]
    return go.Scatter(
        x=np.concatenate(outline_x) if outline_x else [],
        y=np.concatenate(outline_y) if outline_y else [],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=color,
        opacity=opacity,
        hoverinfo="skip",
    )


def _runs(known: NDArray[np.bool_]) -> list[slice]:
    """Return the runs in which `known` is True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    return [slice(start, stop) for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]
