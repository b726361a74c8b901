"""Drawings of a residual network: the residual stream with its branches, and the unravelled tree of paths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from thruway.errors import ConfigError
from thruway.figures.lesions import KIND_STYLES, kind_styles
from thruway.figures.panels import add_note, empty_figure, fit_legend, label, legend_key
from thruway.figures.theme import GREY, TEMPLATE
from thruway.figures.ticks import shortened

__all__ = ["MAX_UNRAVELLED", "Wire", "residual_stream", "unravelled"]

MAX_UNRAVELLED = 6  # branches, 2^6 = 64 paths: more are not readable
ROW = {"stream": 34, "tree": 24}  # pixels
BOTTOM = 56  # pixels; notes are positioned for this margin
BOX = 0.24  # half the width of a branch in the tree, in columns
LINE = {"color": GREY, "width": 1.6}


@dataclass(frozen=True)
class Wire:
    """A branch and its connections.

    Attributes:
        name: name of the branch.
        kind: "identity", "projection", "gated" or "module".
        shortcut: index of the branch whose sum is the shortcut. If None, the input of the network.
        source: index of the branch whose sum is the input of this branch. If None, the input of the network.
        said: additional hover text, such as the size of the branch.
        depth: number of branches that contain this one.
        shape: shape of the sum as text; a new stage begins where it differs from the previous one.
    """

    name: str
    kind: str = "identity"
    shortcut: int | None = None
    source: int | None = None
    said: str = ""
    depth: int = 0
    shape: str = ""


def residual_stream(wires: Sequence[Wire], *, title: str = "") -> go.Figure:
    """Draw the network as a stream from top to bottom; each branch leaves the stream and returns to it.

    Args:
        wires: branches in the order in which they are added to the stream.
    Raises:
        ConfigError: if a kind is unknown.
    Source:
        Veit, Wilber & Belongie 2016, fig. 1 (a).

    >>> figure = residual_stream([Wire("block 1"), Wire("block 2", shortcut=0, source=0)])
    >>> [text.text for text in figure.layout.annotations]
    ['input', 'output', 'block 1', 'block 2']
    """
    colors = kind_styles([wire.kind for wire in wires])
    if not wires:
        return empty_figure("Nothing to draw: the network has no branches.")
    bottom = len(wires) + 1
    sheet = _Sheet()
    sheet.add_line([(0, 0), (0, bottom)])
    sheet.add_text(0.12, 0, "input", align="left")
    sheet.add_text(0.12, bottom, "output", align="left")
    names = shortened([wire.name for wire in wires], 30)
    shape = wires[0].shape
    hover = []
    for row, (wire, name) in enumerate(zip(wires, names, strict=True), start=1):
        left = 0.35 + 0.12 * min(wire.depth, 6)
        sheet.add_line([(0, row - 0.32), (left + 0.12, row - 0.32), (left + 0.12, row + 0.32), (0, row + 0.32)])
        sheet.add_box((left, row - 0.2), (left + 0.24, row + 0.2), colors[wire.kind].color)
        sheet.add_sum(0, row + 0.32)
        sheet.add_text(left + 0.32, row, name, align="left")
        hover.append(((left + 0.12, row), f"{label(wire.name)}<br>{label(wire.kind)}{_more(wire)}"))
        if wire.shape != shape:
            shape = wire.shape
            sheet.add_line([(-0.25, row - 0.5), (2.6, row - 0.5)], dash="dot", width=1)
            sheet.add_text(2.6, row - 0.2, label(shape), align="right", size=11)
    return sheet.figure(bottom * ROW["stream"], (-0.25, 2.6), (-0.6, bottom + 0.6), hover, list(colors), title)


def unravelled(wires: Sequence[Wire], *, title: str = "") -> go.Figure:
    """Draw the unravelled network with all its paths. Since the input of every branch is repeated, each sum doubles the
    number of paths.

    The input is on the left; each row is a path with the number of its branches. The paths join towards the right.
    Boxes with the same number are copies of one branch.

    Args:
        wires: at most six branches, in the order in which they are added.
    Raises:
        ConfigError: if there are more branches, a kind is unknown, or a branch is connected to a later one.
    Source:
        Veit, Wilber & Belongie 2016, fig. 1 (b).

    >>> figure = unravelled([Wire("a"), Wire("b", shortcut=0, source=0)])
    >>> [text.text for text in figure.layout.annotations if text.text.isdigit()]  # one per path, from the top
    ['0', '1', '1', '2']
    """
    colors = kind_styles([wire.kind for wire in wires])
    if not wires:
        return empty_figure("Nothing to draw: the network has no branches.")
    if len(wires) > MAX_UNRAVELLED:
        raise ConfigError(
            f"{len(wires)} branches have up to 2^{len(wires)} paths; at most {MAX_UNRAVELLED} branches can be drawn. "
            "Draw fewer branches, or use residual_stream."
        )
    for number, wire in enumerate(wires):
        if any(end is not None and not 0 <= end < number for end in (wire.shortcut, wire.source)):
            raise ConfigError(f"branch {number} ({wire.name}) must be connected to earlier branches only.")
    tree = _Tree(wires)
    root = tree.grow(len(wires) - 1)
    sheet = _Sheet()
    for points in tree.lines:
        sheet.add_line(points)
    sheet.add_line([root, (len(wires) + 0.3, root[1])])
    sheet.add_text(len(wires) + 0.65, root[1] - 0.45, "output", align="right")
    hover = []
    for number, x, y in tree.boxes:
        wire = wires[number]
        sheet.add_box((x - BOX, y - 0.36), (x + BOX, y + 0.36), colors[wire.kind].color)
        sheet.add_text(x, y, f"<b>{number + 1}</b>", color="#ffffff", size=12)
        hover.append(((x, y), f"{number + 1}: {label(wire.name)}<br>{label(wire.kind)}{_more(wire)}"))
    for x, y in tree.sums:
        sheet.add_sum(x, y)
    for row, passed in enumerate(tree.paths):
        sheet.add_text(-0.1, row, str(len(passed)), align="right", size=12)
    x_range, y_range = (-0.4, len(wires) + 0.7), (-0.7, tree.rows - 0.3)
    figure = sheet.figure(tree.rows * ROW["tree"], x_range, y_range, hover, list(colors), title)
    return add_note(
        figure, [f"{tree.rows} paths, each with its number of branches.", "Boxes with one number are one branch."]
    )


class _Tree:
    """Positions in the unravelled drawing. Rows are paths, columns are branches; sum i is in column i + 1."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self.wires = wires
        self.rows = 0
        self.lines: list[list[tuple[float, float]]] = []
        self.boxes: list[tuple[int, float, float]] = []
        self.sums: list[tuple[float, float]] = []
        self.paths: list[tuple[int, ...]] = []

    def grow(self, number: int | None, after: tuple[int, ...] = ()) -> tuple[float, float]:
        """Add the paths to the sum of branch `number`, and return its position; `after` are the later branches."""
        if number is None:
            self.paths.append(after)
            self.rows += 1
            return 0.0, float(self.rows - 1)
        wire, x = self.wires[number], number + 1.0
        carried = self.grow(wire.shortcut, after)
        read = self.grow(wire.source, (number, *after))
        # Between the two rows: on one of them the sum would look like the continuation of that path.
        y = (carried[1] + read[1]) / 2
        self.lines.append([carried, (x - 0.12, carried[1]), (x - 0.12, y), (x, y)])
        self.lines.append([read, (x - 0.12, read[1]), (x - 0.12, y)])
        self.boxes.append((number, x - 0.48, read[1]))
        self.sums.append((x - 0.12, y))
        return x, y


class _Sheet:
    """Collected lines, boxes and texts, added to a figure at once: Plotly validates all of them on each addition."""

    def __init__(self) -> None:
        self._shapes: list[dict[str, object]] = []
        self._texts: list[dict[str, object]] = []
        self._sums: list[tuple[float, float]] = []

    def add_line(self, points: Sequence[tuple[float, float]], **style: object) -> None:
        path = "M " + " L ".join(f"{x:.4f},{y:.4f}" for x, y in points)
        self._shapes.append({"type": "path", "path": path, "line": {**LINE, **style}, "layer": "below"})

    def add_box(self, corner: tuple[float, float], other: tuple[float, float], color: str) -> None:
        (x0, y0), (x1, y1) = corner, other
        place = {"type": "rect", "x0": x0, "y0": y0, "x1": x1, "y1": y1}
        self._shapes.append({**place, "fillcolor": color, "line": {"width": 0}, "layer": "below"})

    def add_sum(self, x: float, y: float) -> None:
        self._sums.append((x, y))

    def add_text(
        self, x: float, y: float, text: str, *, align: str = "center", color: str | None = None, size: int = 13
    ) -> None:
        font = {"size": size} | ({"color": color} if color else {})
        place = {"x": x, "y": y, "xanchor": align, "yanchor": "middle"}
        self._texts.append({**place, "text": text, "showarrow": False, "font": font})

    def figure(
        self,
        height: float,
        x: tuple[float, float],
        y: tuple[float, float],
        hover: Sequence[tuple[tuple[float, float], str]],
        kinds: Sequence[str],
        title: str,
    ) -> go.Figure:
        """Build the figure, with x axis from x[0] to x[1], y axis from y[0] (top) to y[1], and hover texts."""
        hidden = {"visible": False, "fixedrange": True}
        if title:
            place = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "yshift": 20}
            self._texts.append({**place, "text": f"<b>{label(title)}</b>", "showarrow": False})
        layout = {"shapes": self._shapes, "annotations": self._texts, "template": TEMPLATE}
        axes = {"xaxis": {**hidden, "range": list(x)}, "yaxis": {**hidden, "range": [y[1], y[0]]}}
        plus = {"symbol": "circle-cross-open", "size": 11, "color": GREY, "line": {"width": 1.4}}
        sums = _marks(self._sums, marker=plus, hoverinfo="skip")
        texts = [text for _, text in hover]
        spots = _marks([place for place, _ in hover], marker={"size": 20, "opacity": 0}, customdata=texts)
        spots.hovertemplate = "%{customdata}<extra></extra>"
        keys = [
            legend_key(kind, mode="markers", marker={"symbol": "square", "size": 14, "color": KIND_STYLES[kind].color})
            for kind in kinds
        ]
        figure = go.Figure(data=[sums, spots, *keys], layout={**layout, **axes})
        size = {"height": math.ceil(height) + BOTTOM, "margin.b": BOTTOM, "margin.t": 0, "margin.l": 12, "margin.r": 12}
        figure.layout.meta = {"wide": dict(size), "narrow": dict(size)}
        return fit_legend(figure)


def _marks(places: Sequence[tuple[float, float]], **style: object) -> go.Scatter:
    x, y = [x for x, _ in places], [y for _, y in places]
    return go.Scatter(x=x, y=y, mode="markers", showlegend=False, **style)


def _more(wire: Wire) -> str:
    return f"<br>{label(wire.said)}" if wire.said else ""
