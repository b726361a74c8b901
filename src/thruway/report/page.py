"""HTML page of a report: one self-contained file that works offline.

Plotly's bundle is embedded once, deflated from 4.8 MB to 2 MB; the browser inflates it. Scripts are allowed by the hash
of their text only, so that no script within the data can run.
"""

import base64
import functools
import hashlib
import itertools
import zlib
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

from thruway.figures.theme import TEMPLATE
from thruway.report.card import Card, CardFigure
from thruway.report.card_html import card_markup
from thruway.report.content import VERDICTS, Page, Section
from thruway.report.html import Markup, claims_list, provenance_list, table, tag
from thruway.runs.files import write_atomically

__all__ = [
    "content_security_policy",
    "figure_script",
    "page_script",
    "page_style",
    "plotly_bundle",
    "render_page",
    "write_page",
]

NO_SCRIPT = "This figure needs JavaScript. Its numbers are in the tables of this page and in summary.json."


def write_page(page: Page, path: Path | str) -> Path:
    """Write the report as one self-contained HTML file of about 2 MB plus the data of the figures.

    The page makes no network requests, supports light and dark colour schemes, small screens and printing, and escapes
    all names.

    Args:
        page: content of the report.
        path: file to write, usually `report.html` in the run folder. It is written atomically.
    Returns:
        The path.
    Raises:
        RunError: if the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(Page("Depth", "Fig. 1", "It holds."), Path(folder) / "report.html").name
    'report.html'
    """
    # A file name may contain bytes that are not text; they are shown as escapes.
    return write_atomically(Path(path), render_page(page).encode("utf-8", "backslashreplace"))


def render_page(page: Page) -> str:
    """Return the HTML of the report.

    >>> "&lt;script&gt;" in render_page(Page("<script>", "", ""))
    True
    """
    drawn = any(map(_has_figure, page.sections))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=content_security_policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", page.title),
        tag("link", rel="icon", href="data:,"),  # otherwise the browser requests one from a server
        tag("style", Markup(page_style())),
    )
    sections = (_card_or_section(section, number) for number, section in enumerate(page.sections))
    body = tag(
        "body",
        _header(page),
        tag("main", claims_list(page.claims), *sections),
        provenance_list(page.provenance),
        tag("footer", tag("p", "Written by Thruway. This file is self-contained and works offline.")),
        *(_scripts() if drawn else ()),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en").html + "\n"


def _header(page: Page) -> Markup:
    counts = {verdict: sum(claim.verdict == verdict for claim in page.claims) for verdict in VERDICTS}
    chips = [
        tag("span", _count(count, verdict), class_=f"chip {verdict}") for verdict, count in counts.items() if count
    ]
    return tag(
        "header",
        tag("p", page.subtitle, class_="subtitle"),
        tag("h1", page.title),
        tag("p", page.lead, class_="lead"),
        tag("p", tag("span", "Claims:", class_="label"), *chips, class_="chips") if chips else "",
    )


def _count(count: int, verdict: str) -> str:
    """Return a count such as "✓ 2 hold": the sign, the number, and the verb in its singular or plural."""
    sign, word = VERDICTS[verdict].split()
    return f"{sign} {count} {word.removesuffix('s') if count > 1 else word}"


def _has_figure(section: Section | Card) -> bool:
    if isinstance(section, Card):
        return any(isinstance(part, CardFigure) for part in section.parts)
    return section.figure is not None


def _card_or_section(section: Section | Card, number: int) -> Markup:
    if isinstance(section, Section):
        return _section(section, number)
    names = (f"figure-{number}-{place}" for place in itertools.count())
    return card_markup(section, lambda figure, title: _plot(figure, next(names), title))


def _section(section: Section, number: int) -> Markup:
    parts = [tag("h2", section.title), tag("p", section.reading, class_="reading")]
    if section.figure is not None:
        parts.append(_plot(section.figure, f"figure-{number}", section.title))
    if section.table is not None:
        parts.append(table(section.table))
    return tag("section", *parts)


def _plot(figure: go.Figure, name: str, title: str) -> Markup:
    height = f"min-height: {int(figure.layout.height or 420)}px"
    box = tag("div", tag("noscript", NO_SCRIPT), class_="plot", data_figure=name, style=height)
    return tag("figure", box, figure_script(figure, name), aria_label=title)


def _scripts() -> tuple[Markup, ...]:
    return (
        tag("script", Markup(plotly_bundle()), type="text/plain", id="plotly"),
        tag("script", Markup(page_script())),
    )


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
    """Return the style sheet of the page."""
    return (files("thruway.report") / "page.css").read_text("utf-8")


@functools.cache
def content_security_policy() -> str:
    """Return the content security policy: nothing is loaded, and only our script and Plotly may run, identified by
    hash.

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
