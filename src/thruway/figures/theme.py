"""Theme of all figures: fonts, colours and markers of blocks, and the Plotly template.

Figures have a transparent background and mid-tone greys, so that they are readable on a light and on a dark page.
The report page adapts the greys to the reader's colour scheme.
"""

from dataclasses import dataclass

import plotly.graph_objects as go

__all__ = ["BLOCK_STYLES", "FONT", "GREY", "OTHER_STYLES", "TEMPLATE", "MarkerStyle"]

GREY = "#767b85"  # contrast 4.1 on the light page, 4.2 on the dark one
FAINT = "rgba(128, 134, 145, 0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


@dataclass(frozen=True)
class MarkerStyle:
    """Colour and marker symbol of one kind of block. The symbol distinguishes kinds without colour."""

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
