"""Assets embedded in the page: Plotly, the page's script and style sheet, and the figures' data.

Plotly's bundle is embedded once, deflated from 4.8 MB to 2 MB; the browser inflates it. Scripts are allowed by the hash
of their text only, so that no script within the data can run.
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

PACK_ABOVE = 100_000  # characters of a figure's data; shorter data stays readable in the file


@functools.cache
def plotly_bundle() -> str:
    """Return Plotly's JavaScript as a zlib stream in base64."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


@functools.cache
def page_script() -> str:
    """Return the script that draws the figures and adapts them to the reader's colour scheme."""
    return (files("thruway.report") / "page.js").read_text("utf-8")


@functools.cache
def page_style() -> str:
    """Return the page's style sheet."""
    return (files("thruway.report") / "page.css").read_text("utf-8")


@functools.cache
def content_security_policy() -> str:
    """Return the page's policy: nothing is loaded, and only our script and Plotly may run, identified by their hashes.

    Plotly needs inline styles for its style attributes, and data and blob URLs for images.
    """
    scripts = " ".join(f"'sha256-{_sha256(text)}'" for text in (page_script(), get_plotlyjs()))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def figure_script(figure: go.Figure, name: str) -> Markup:
    """Return a script element with id `name` and the figure's JSON as inert data, deflated if it is long.

    >>> figure_script(go.Figure(), "figure-0").html[:52]
    '<script type="application/json" id="figure-0">{"data'
    """
    text = _json(figure)
    if len(text.html) < PACK_ABOVE:
        return tag("script", text, type="application/json", id=name)
    packed = base64.b64encode(zlib.compress(text.html.encode(), 9)).decode()
    return tag("script", Markup(packed), type="text/plain", id=name)


def _json(figure: go.Figure) -> Markup:
    """Return the figure as JSON that is safe inside a script element: characters with a meaning in HTML are escaped.

    >>> _json(go.Figure(layout={"title": {"text": "</script>"}})).html.count("<")
    0
    """
    themed = go.Figure(figure)
    # Figures from elsewhere have Plotly's default template, with a white background on a dark page.
    themed.update_layout(template=TEMPLATE)
    text: str = pio.to_json(themed, engine="json", validate=False)
    # Plotly escapes < and > itself; the page does not rely on it.
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
