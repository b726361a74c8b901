"""Theme of all figures: colours and markers of blocks, axes, labels and the Plotly template.

Figures have a transparent background and mid-tone greys, so that they are readable on a light and on a dark page.
The report page adapts the greys to the reader's colour scheme.
"""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

__all__ = [
    "BLOCK_STYLES",
    "FONT",
    "GREY",
    "OTHER_STYLES",
    "TEMPLATE",
    "MarkerStyle",
    "axis_title",
    "block_styles",
    "label",
    "log_axis",
]

GREY = "#767b85"  # contrast 4.1 on the light page, 4.2 on the dark one
FAINT = "rgba(128, 134, 145, 0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


@dataclass(frozen=True)
class MarkerStyle:
    """Colour and marker symbol of one kind of block; the symbol distinguishes kinds without colour."""

    color: str
    symbol: str


# Contrast of at least 3 on both pages, and distinguishable for protan, deutan and tritan readers (tested).
BLOCK_STYLES = {
    "plain": MarkerStyle("#d9622b", "circle"),
    "highway": MarkerStyle("#4f62dc", "diamond"),
    "residual": MarkerStyle("#10a37e", "square"),
}
OTHER_STYLES = (
    MarkerStyle("#a855a8", "triangle-up"),
    MarkerStyle("#8f7a12", "cross"),
    MarkerStyle("#767b85", "pentagon"),
    MarkerStyle("#b8476b", "star"),
)


def block_styles(names: Iterable[str]) -> dict[str, MarkerStyle]:
    """Return a style per name: the three blocks have fixed styles, other names get the remaining ones in order.

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
    """Plain, highway, residual, then the others by name."""
    order = list(BLOCK_STYLES)
    return (order.index(name) if name in order else len(order), name)


def label(text: object, *, longest: int = 48) -> str:
    """Escape and shorten a text for a figure: Plotly interprets some HTML tags and entities in labels.

    A text of more than `longest` characters ends in an ellipsis: a label wider than its panel breaks Plotly's
    layout. The table next to a figure has the full name.

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


AXIS = {
    "gridcolor": FAINT,
    "linecolor": GREY,
    "showline": True,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": GREY,
    "zeroline": False,
    "tickfont": {"size": 12},
    "title": {"standoff": 8},
}

# An axis of a 3-D scene, without background walls, which would hide surfaces.
SCENE_AXIS = {"color": GREY, "gridcolor": FAINT, "zerolinecolor": FAINT, "showbackground": False, "showspikes": False}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [style.color for style in (*BLOCK_STYLES.values(), *OTHER_STYLES)],
        "xaxis": AXIS,
        "yaxis": AXIS,
        "scene": {"xaxis": SCENE_AXIS, "yaxis": SCENE_AXIS, "zaxis": SCENE_AXIS},
        "hoverlabel": {"font": {"family": FONT, "size": 13}},
        "legend": {
            "traceorder": "normal",  # otherwise Plotly stacks the entries of a group
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "itemsizing": "constant",
        },
        "modebar": {"orientation": "v"},
        "margin": {"l": 68, "r": 40, "t": 64, "b": 56},
    }
)
