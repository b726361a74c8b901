"""What the page carries inside itself: Plotly, our script and style, and the figures' data.

Plotly's bundle goes in once, deflated: 4.8 MB become 2 MB, and the browser inflates it. Scripts
run by the hash of their text, so nothing that came in with the data can ever run.
"""

import base64
import functools
import hashlib
import zlib
from importlib.resources import files

import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

from thruway.figures.theme import TEMPLATE
from thruway.report.markup import Markup, tag

__all__ = ["content_security_policy", "figure_script", "page_script", "page_style", "plotly_bundle"]

PACK_ABOVE = 100_000  # characters of a figure's data: below, a reader may look at it in the file


@functools.cache
def plotly_bundle() -> str:
    """Plotly's own JavaScript: zlib stream in base64."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


@functools.cache
def page_script() -> str:
    """The script that draws the figures and follows the reader's colour scheme."""
    return (files("thruway.report") / "page.js").read_text("utf-8")


@functools.cache
def page_style() -> str:
    """The page's style sheet."""
    return (files("thruway.report") / "page.css").read_text("utf-8")


@functools.cache
def content_security_policy() -> str:
    """Nothing may load; only our script and Plotly may run, each known by its hash.

    Plotly sets style attributes, hence the inline styles; it makes pictures as data and blob URLs.
    """
    scripts = " ".join(f"'sha256-{_sha256(text)}'" for text in (page_script(), get_plotlyjs()))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def figure_script(figure: go.Figure, name: str) -> Markup:
    """The script element `name` that holds the figure's JSON, which nothing runs; deflated where it is long.

    >>> figure_script(go.Figure(), "figure-0").html[:52]
    '<script type="application/json" id="figure-0">{"data'
    """
    text = _json(figure)
    if len(text.html) < PACK_ABOVE:
        return tag("script", text, type="application/json", id=name)
    packed = base64.b64encode(zlib.compress(text.html.encode(), 9)).decode()
    return tag("script", Markup(packed), type="text/plain", id=name)


def _json(figure: go.Figure) -> Markup:
    """The figure as JSON that is safe inside a script element: no character that HTML could read is left.

    >>> _json(go.Figure(layout={"title": {"text": "</script>"}})).html.count("<")
    0
    """
    dressed = go.Figure(figure)
    # Figures written elsewhere bring Plotly's default look, which is white paper in a dark page.
    dressed.update_layout(template=TEMPLATE)
    text: str = pio.to_json(dressed, engine="json", validate=False)
    # Plotly escapes < and > itself; the page does not rest on it.
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
