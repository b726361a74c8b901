"""Layout of figures: panels next to or below each other, axes, labels, legends, notes, and styles of blocks.

A figure has two arrangements of its panels in `layout.meta`: "wide", which is applied, and "narrow", with one
panel below the other, which the report page applies on a small screen. Each is a mapping from paths in the layout to
values.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from thruway.figures.theme import BLOCK_STYLES, GREY, OTHER_STYLES, TEMPLATE, MarkerStyle

__all__ = [
    "add_margins",
    "add_note",
    "axes_of",
    "axis_title",
    "block_styles",
    "empty_figure",
    "fit_legend",
    "label",
    "legend_key",
    "log_axis",
    "small_multiples",
]

COLUMN_GAP = 0.11  # share of the width: space for the next panel's tick labels and axis title
ROW_GAP = 96  # pixels: tick labels and axis title above, the next panel's title below
ROW_HEIGHT = {"wide": 290, "narrow": 250}
SINGLE_HEIGHT = {"wide": 420, "narrow": 330}
BOTTOM = 56
RIGHT = {"wide": 40, "narrow": 8}  # a wide screen has Plotly's buttons there
LEGEND_WIDTH = {"wide": 900, "narrow": 320}  # pixels per line of the legend


def small_multiples(
    titles: Sequence[str], x_axes: Sequence[dict[str, Any]], y_axis: dict[str, Any], *, height: int | None = None
) -> go.Figure:
    """Return an empty figure with one titled panel per x axis and a shared y axis.

    `height` is the height of a panel in pixels on every screen; by default panels are lower on a narrow screen.
    """
    figure = go.Figure(layout={"template": TEMPLATE})
    columns = _columns(len(titles))
    for number, (title, x_axis) in enumerate(zip(titles, x_axes, strict=True)):
        x, y = axes_of(number)
        figure.update_layout(
            {
                _layout_key(x): {**x_axis, "anchor": y},
                _layout_key(y): {**y_axis, "anchor": x, "matches": None if number == 0 else "y"},
            }
        )
        if title:
            figure.add_annotation(
                # Placed relative to its panel, so that it moves with the panel.
                text=f"<b>{label(title)}</b>",
                xref=f"{x} domain",
                yref=f"{y} domain",
                x=0,
                y=1,
                xanchor="left",
                yanchor="bottom",
                yshift=5,
                showarrow=False,
            )
    figure.layout.meta = {
        "wide": _arrangement("wide", len(titles), columns, height),
        "narrow": _arrangement("narrow", len(titles), 1, height),
    }
    return fit_legend(figure)


def axes_of(number: int) -> tuple[str, str]:
    """Return Plotly's names of the axes of panel `number`.

    >>> axes_of(0), axes_of(2)
    (('x', 'y'), ('x3', 'y3'))
    """
    suffix = "" if number == 0 else str(number + 1)
    return f"x{suffix}", f"y{suffix}"


def fit_legend(figure: go.Figure) -> go.Figure:
    """Adjust the top margin to the legend; call it after all traces are added."""
    meta = dict(figure.layout.meta)
    entries = [str(trace.name) for trace in figure.data if trace.showlegend is not False]
    for kind in ("wide", "narrow"):
        lines = _legend_lines(entries, LEGEND_WIDTH[kind])
        top = 30 + 22 * lines  # a panel title and the lines of the legend
        panels = meta[kind]["height"] - meta[kind].get("margin.t", 0)
        meta[kind] = {**meta[kind], "margin.t": top, "height": panels + top}
    figure.layout.meta = meta
    for path, value in meta["wide"].items():
        figure.layout[path] = value
    return figure


def add_margins(figure: go.Figure, *, above: int = 0, below: int = 0) -> go.Figure:
    """Add pixels above and below the panels in both arrangements; call it after `fit_legend`."""
    meta = dict(figure.layout.meta)
    for kind in ("wide", "narrow"):
        now = meta[kind]
        meta[kind] = {
            **now,
            "margin.t": now["margin.t"] + above,
            "margin.b": now["margin.b"] + below,
            "height": now["height"] + above + below,
        }
    figure.layout.meta = meta
    for path, value in meta["wide"].items():
        figure.layout[path] = value
    return figure


def add_note(figure: go.Figure, sentences: Sequence[str]) -> go.Figure:
    """Add a note below the panels, one line per sentence; call it after `fit_legend`.

    A sentence of more than about 45 characters does not fit on a phone.
    """
    if not sentences:
        return figure
    figure.add_annotation(
        text="<br>".join(label(each, longest=100) for each in sentences),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        xanchor="left",
        yanchor="top",
        yshift=4 - BOTTOM,
        align="left",
        showarrow=False,
        font={"size": 12},
    )
    return add_margins(figure, below=8 + 17 * len(sentences))


def legend_key(name: str, **style: Any) -> go.Scatter:
    """Return an empty trace that only adds an entry to the legend."""
    keys = go.Scatter(x=[None], y=[None], name=label(name), line={"color": GREY}, marker={"color": GREY})
    return keys.update(style)


def empty_figure(reason: str) -> go.Figure:
    """Return a figure without axes that shows the reason why it is empty."""
    figure = go.Figure(layout={"template": TEMPLATE, "height": 160})
    figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
    figure.add_annotation(
        text=label(reason), xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False, font={"color": GREY}
    )
    return figure


def label(text: object, *, longest: int = 48) -> str:
    """Escape and shorten a text for a figure: Plotly interprets some HTML tags and entities in labels.

    A text of more than `longest` characters is cut and ends in an ellipsis, since a label wider than its panel breaks
    Plotly's layout. The table next to a figure has the full name.

    >>> label("<b>x & y</b>"), label("softsign", longest=5)
    ('&lt;b&gt;x &amp; y&lt;/b&gt;', 'soft…')
    """
    words = str(text)
    # Shorten before escaping, so that no entity is cut.
    return html.escape(words if len(words) <= longest else words[: longest - 1] + "…", quote=False)


def log_axis(title: str, values: Iterable[float]) -> dict[str, Any]:
    """Return a logarithmic axis for `values`: labels at the decades, and between them only for a short range.

    >>> log_axis("loss (nats)", [1e-5, 1.0])["dtick"]
    1
    """
    logs = [math.log10(value) for value in values if value > 0 and math.isfinite(value)]
    span = max(logs, default=0.0) - min(logs, default=0.0)
    axis: dict[str, Any] = {"type": "log", "title": {"text": label(title)}}
    if span <= 2.5:
        # "D2" labels 1, 2 and 5, by default with the digit only. Below a decade, leave the ticks to Plotly.
        return axis | ({"dtick": "D2", "tickformat": "~g"} if span > 0.7 else {"dtick": None})
    # Beyond ten decades the labels would overlap. Plotly draws powers a quarter larger than the font size.
    return axis | {"dtick": 1 + int(span) // 10, "exponentformat": "power", "tickfont": {"size": 10}}


def axis_title(quantity: str, unit: str = "") -> str:
    """Return the title of an axis: quantity and unit.

    >>> axis_title("gradient norm", "nats per unit"), axis_title("depth")
    ('gradient norm (nats per unit)', 'depth')
    """
    return label(f"{quantity} ({unit})" if unit else quantity, longest=72)


def block_styles(names: Iterable[str]) -> dict[str, MarkerStyle]:
    """Return a style for each name: the three blocks have fixed styles, other names get the remaining ones in order.

    >>> [style.symbol for style in block_styles(["highway", "mine"]).values()]
    ['diamond', 'triangle-up']
    """
    chosen: dict[str, MarkerStyle] = {}
    others = 0
    for name in dict.fromkeys(names):
        if name in BLOCK_STYLES:
            chosen[name] = BLOCK_STYLES[name]
        else:
            chosen[name] = OTHER_STYLES[others % len(OTHER_STYLES)]
            others += 1
    return {name: chosen[name] for name in sorted(chosen, key=_papers_order)}


def _papers_order(name: str) -> tuple[int, str]:
    """Sort key of names: plain, highway, residual, then all others alphabetically."""
    order = list(BLOCK_STYLES)
    return (order.index(name) if name in order else len(order), name)


def _columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3


def _layout_key(axis: str) -> str:
    return f"{axis[0]}axis{axis[1:]}"


def _arrangement(kind: str, count: int, columns: int, height: int | None) -> dict[str, Any]:
    """Return the domain of each panel and the height of the figure without its top margin."""
    rows = math.ceil(count / columns)
    row_height = height or (SINGLE_HEIGHT if count == 1 else ROW_HEIGHT)[kind]
    inner = rows * row_height + (rows - 1) * ROW_GAP
    width = (1 - (columns - 1) * COLUMN_GAP) / columns
    paths: dict[str, Any] = {"height": inner + BOTTOM, "margin.b": BOTTOM, "margin.r": RIGHT[kind]}
    for number in range(count):
        row, column = divmod(number, columns)
        left = column * (width + COLUMN_GAP)
        top = 1 - row * (row_height + ROW_GAP) / inner
        x, y = (_layout_key(axis) for axis in axes_of(number))
        paths[f"{x}.domain"] = [left, min(1.0, left + width)]
        paths[f"{y}.domain"] = [max(0.0, top - row_height / inner), top]
    return paths


def _legend_lines(entries: Sequence[str], width: int) -> int:
    """Return the number of lines of a horizontal legend: Plotly gives every entry the width of the widest."""
    if not entries:
        return 0
    widest = 48 + 7 * max(len(entry) for entry in entries)
    return math.ceil(len(entries) / max(1, width // widest))
