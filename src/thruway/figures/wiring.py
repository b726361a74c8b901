"""A residual net as a drawing: one stream with its branches, and the tree of paths it unravels into."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.lesions import KIND_LOOKS, stream_looks
from thruway.figures.look import GREY, TEMPLATE, label
from thruway.figures.panels import add_note, empty_figure, fit_legend, legend_key
from thruway.figures.ticks import shortened

__all__ = ["MOST_UNRAVELLED", "Wire", "residual_stream", "unravelled"]

MOST_UNRAVELLED = 6  # 64 paths: more nobody follows with the eye
ROW = {"stream": 34, "tree": 24}  # pixels
BOTTOM = 56  # pixels; notes are placed for that
BOX = 0.24  # half the width of a branch in the tree, in columns
LINE = {"color": GREY, "width": 1.6}


@dataclass(frozen=True)
class Wire:
    """A branch and what it is wired to.

    Attributes:
        name: of the branch.
        kind: "identity", "projection", "gated" or "module".
        shortcut: number of the branch whose sum the shortcut carries on; None for the net's input.
        source: number of the branch whose sum the branch reads; None for the net's input.
        said: what else the pointer says of it, such as its size.
        depth: how many branches it lies within.
        shape: of the sum, in words; where it differs from the last one, a new stage begins.
    """

    name: str
    kind: str = "identity"
    shortcut: int | None = None
    source: int | None = None
    said: str = ""
    depth: int = 0
    shape: str = ""


def residual_stream(wires: Sequence[Wire], *, title: str = "") -> go.Figure:
    """The net as a stream from top to bottom, each branch leaving it and coming back.

    Args:
        wires: the branches in the order in which they join.
    Raises:
        ConfigError: for an unknown kind.
    Source:
        Veit, Wilber & Belongie 2016, fig. 1 (a).

    >>> figure = residual_stream([Wire("block 1"), Wire("block 2", shortcut=0, source=0)])
    >>> [text.text for text in figure.layout.annotations]
    ['input', 'output', 'block 1', 'block 2']
    """
    colors = stream_looks([wire.kind for wire in wires])
    if not wires:
        return empty_figure("Nothing to draw: the net has no branches.")
    bottom = len(wires) + 1
    figure = _canvas(bottom * ROW["stream"], (-0.25, 2.6), (-0.6, bottom + 0.6), title)
    _line(figure, [(0, 0), (0, bottom)])
    _say(figure, 0.12, 0, "input", align="left")
    _say(figure, 0.12, bottom, "output", align="left")
    names = shortened([wire.name for wire in wires], 30)
    shape = wires[0].shape
    for row, (wire, name) in enumerate(zip(wires, names, strict=True), start=1):
        left = 0.35 + 0.12 * min(wire.depth, 6)
        color = colors[wire.kind].color
        _line(figure, [(0, row - 0.32), (left + 0.12, row - 0.32), (left + 0.12, row + 0.32), (0, row + 0.32)])
        _rectangle(figure, (left, row - 0.2), (left + 0.24, row + 0.2), color)
        _plus(figure, 0, row + 0.32)
        _say(figure, left + 0.32, row, name, align="left")
        if wire.shape != shape:
            shape = wire.shape
            _line(figure, [(-0.25, row - 0.5), (2.6, row - 0.5)], dash="dot", width=1)
            _say(figure, 2.6, row - 0.34, label(shape), align="right", size=11)
    middles = [(0.47 + 0.12 * min(wire.depth, 6), row) for row, wire in enumerate(wires, start=1)]
    _pointer(figure, middles, [f"{label(wire.name)}<br>{label(wire.kind)}{_more(wire)}" for wire in wires])
    return _keyed(figure, list(colors))


def unravelled(wires: Sequence[Wire], *, title: str = "") -> go.Figure:
    """The same net as all its paths: what branch i reads is written out, so that each sum doubles the paths.

    Input is on the left, each row one path with the number of its branches; the paths meet on the way to
    the right, where boxes of one number are copies of one branch.

    Args:
        wires: at most six branches, in the order in which they join.
    Raises:
        ConfigError: for more branches, an unknown kind, or a wire to a later branch.
    Source:
        Veit, Wilber & Belongie 2016, fig. 1 (b).

    >>> figure = unravelled([Wire("a"), Wire("b", shortcut=0, source=0)])
    >>> [text.text for text in figure.layout.annotations if text.text.isdigit()]  # of the paths, from above
    ['0', '1', '1', '2']
    """
    colors = stream_looks([wire.kind for wire in wires])
    if not wires:
        return empty_figure("Nothing to draw: the net has no branches.")
    if len(wires) > MOST_UNRAVELLED:
        raise ConfigError(
            f"{len(wires)} branches have up to 2^{len(wires)} paths; {MOST_UNRAVELLED} branches can be drawn. "
            "Draw a few of them, or the stream."
        )
    for number, wire in enumerate(wires):
        if any(end is not None and not 0 <= end < number for end in (wire.shortcut, wire.source)):
            raise ConfigError(f"branch {number} ({wire.name}) is wired to one that does not come before it.")
    tree = _Tree(wires)
    root = tree.grow(len(wires) - 1)
    figure = _canvas(tree.rows * ROW["tree"], (-0.4, len(wires) + 0.7), (-0.7, tree.rows - 0.3), title)
    for points in tree.lines:
        _line(figure, points)
    _line(figure, [root, (len(wires) + 0.3, root[1])])
    _say(figure, len(wires) + 0.65, root[1] - 0.45, "output", align="right")
    for number, x, y in tree.boxes:
        wire = wires[number]
        _rectangle(figure, (x - BOX, y - 0.36), (x + BOX, y + 0.36), colors[wire.kind].color)
        _say(figure, x, y, f"<b>{number + 1}</b>", color="#ffffff", size=12)
    for x, y in tree.sums:
        _plus(figure, x, y)
    for row, passed in enumerate(tree.paths):
        _say(figure, -0.1, row, str(len(passed)), align="right", size=12)
    told = [f"{number + 1}: {label(wires[number].name)}<br>{label(wires[number].kind)}" for number, _, _ in tree.boxes]
    _pointer(figure, [(x, y) for _, x, y in tree.boxes], told)
    figure = _keyed(figure, list(colors))
    return add_note(
        figure, [f"{tree.rows} paths: input left, its branches counted.", "Boxes of one number are one branch."]
    )


class _Tree:
    """Where everything lies: rows are paths, columns branches; column i + 1 is where sum i is made."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self.wires = wires
        self.rows = 0
        self.lines: list[list[tuple[float, float]]] = []
        self.boxes: list[tuple[int, float, float]] = []
        self.sums: list[tuple[float, float]] = []
        self.paths: list[tuple[int, ...]] = []

    def grow(self, number: int | None, after: tuple[int, ...] = ()) -> tuple[float, float]:
        """Where the sum of this branch comes out; everything before it is drawn anew for each reader."""
        if number is None:
            self.paths.append(after)
            self.rows += 1
            return 0.0, float(self.rows - 1)
        wire, x = self.wires[number], number + 1.0
        carried = self.grow(wire.shortcut, after)
        read = self.grow(wire.source, (number, *after))
        # The nearer of the two rows would look like the longer path's continuation: the sum lies between.
        y = (carried[1] + read[1]) / 2
        self.lines.append([carried, (x - 0.12, carried[1]), (x - 0.12, y), (x, y)])
        self.lines.append([read, (x - 0.12, read[1]), (x - 0.12, y)])
        self.boxes.append((number, x - 0.48, read[1]))
        self.sums.append((x - 0.12, y))
        return x, y


def _canvas(height: float, x: tuple[float, float], y: tuple[float, float], title: str) -> go.Figure:
    figure = go.Figure(layout={"template": TEMPLATE})
    hidden = {"visible": False, "fixedrange": True}
    figure.update_layout(xaxis={**hidden, "range": list(x)}, yaxis={**hidden, "range": [y[1], y[0]]})
    shape = {
        "height": math.ceil(height) + BOTTOM,
        "margin.b": BOTTOM,
        "margin.t": 0,
        "margin.l": 12,
        "margin.r": 12,
    }
    figure.layout.meta = {"wide": dict(shape), "narrow": dict(shape)}
    if title:
        figure.add_annotation(
            text=f"<b>{label(title)}</b>", xref="paper", yref="paper", x=0, y=1, yshift=20, showarrow=False
        )
    return figure


def _line(figure: go.Figure, points: Sequence[tuple[float, float]], **style: object) -> None:
    path = "M " + " L ".join(f"{x:.4f},{y:.4f}" for x, y in points)
    figure.add_shape(type="path", path=path, line={**LINE, **style}, layer="below")


def _rectangle(figure: go.Figure, corner: tuple[float, float], other: tuple[float, float], color: str) -> None:
    (x0, y0), (x1, y1) = corner, other
    figure.add_shape(type="rect", x0=x0, y0=y0, x1=x1, y1=y1, fillcolor=color, line={"width": 0}, layer="below")


def _plus(figure: go.Figure, x: float, y: float) -> None:
    figure.add_trace(
        go.Scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker={"symbol": "circle-cross-open", "size": 11, "color": GREY, "line": {"width": 1.4}},
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _say(
    figure: go.Figure, x: float, y: float, text: str, *, align: str = "center", color: str | None = None, size: int = 13
) -> None:
    font = {"size": size} | ({"color": color} if color else {})
    figure.add_annotation(x=x, y=y, text=text, xanchor=align, yanchor="middle", showarrow=False, font=font)


def _pointer(figure: go.Figure, places: Sequence[tuple[float, float]], told: Sequence[str]) -> None:
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in places],
            y=[y for _, y in places],
            mode="markers",
            marker={"size": 20, "opacity": 0},
            customdata=list(told),
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
        )
    )


def _more(wire: Wire) -> str:
    return f"<br>{label(wire.said)}" if wire.said else ""


def _keyed(figure: go.Figure, kinds: Sequence[str]) -> go.Figure:
    for kind in kinds:
        marker = {"symbol": "square", "size": 14, "color": KIND_LOOKS[kind].color}
        figure.add_trace(legend_key(kind, mode="markers", marker=marker))
    return fit_legend(figure)
