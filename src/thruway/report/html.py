"""HTML parts of a report, built from escaped values: elements, formatted values, claims, tables and provenance.

`tag` and `join` escape every child that is not `Markup` already, so that unescaped text cannot reach the page.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from thruway.report.content import VERDICTS, Cell, ClaimVerdict, TableData

__all__ = [
    "Markup",
    "claims_list",
    "format_value",
    "format_values",
    "is_number",
    "join",
    "provenance_list",
    "table",
    "tag",
]

VOID = frozenset({"br", "link", "meta"})  # elements without an end tag
MISSING = "–"


@dataclass(frozen=True)
class Markup:
    """HTML that is already escaped."""

    html: str


def tag(name: str, /, *children: Markup | str, **attributes: str) -> Markup:
    """Return the element `name` with escaped children and attribute values.

    In attribute names a trailing underscore is removed (`class_`), and other underscores become hyphens.

    >>> tag("p", "a < b", tag("b", "c"), class_="note").html
    '<p class="note">a &lt; b<b>c</b></p>'
    """
    pairs = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{pairs}>")
    return Markup(f"<{name}{pairs}>{join(*children).html}</{name}>")


def join(*children: Markup | str) -> Markup:
    """Concatenate children; strings among them are escaped.

    >>> join("&", Markup("<br>")).html
    '&amp;<br>'
    """
    return Markup("".join(child.html if isinstance(child, Markup) else html.escape(child) for child in children))


def is_number(value: Any) -> bool:
    """Return True if `value` is a number, which is right-aligned in tables. Booleans are not numbers."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def format_value(value: Any) -> str:
    """Format a value for display.

    >>> [format_value(v) for v in (12345, 0.012345678, 3.2e-7, float("nan"), None, True, "tanh")]
    ['12,345', '0.01235', '3.2e-07', 'NaN', '–', 'yes', 'tanh']
    """
    if value is None:
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return _format_float(float(value))
    return str(value)


def _format_float(number: float) -> str:
    """Format a number with four significant digits, without an exponent if that is short."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    # "g" suits smaller numbers down to 0.0001; for larger ones it would drop digits before the point.
    return f"{number:,.0f}" if 999.95 <= abs(number) < 1e5 else f"{number:.4g}"


def format_values(value: float | Sequence[float]) -> str:
    """Format one number, or the numbers of several seeds.

    >>> format_values(0.5), format_values([0.5, 0.25])
    ('0.5', '0.5 · 0.25 (per seed)')
    """
    if isinstance(value, Sequence | np.ndarray):
        text = " · ".join(format_value(each) for each in value) or MISSING
        return f"{text} (per seed)" if len(value) > 1 else text
    return format_value(value)


def claims_list(claims: Sequence[ClaimVerdict]) -> Markup:
    """Return the list of claims with verdict, measured number and threshold."""
    if not claims:
        return Markup("")
    return tag(
        "section", tag("h2", "Claims"), tag("ol", *map(_claim, claims), class_="claims"), class_="claims-section"
    )


def _claim(claim: ClaimVerdict) -> Markup:
    facts = {
        "Measured": f"{claim.statistic}: {format_values(claim.value)}",
        "Needed": claim.threshold,
        "Source": claim.source,
    }
    return tag(
        "li",
        tag("span", VERDICTS[claim.verdict], class_=f"chip {claim.verdict}"),
        tag(
            "div",
            tag("p", claim.text, class_="claim"),
            tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in facts.items() if text)),
            tag("p", claim.note, class_="note") if claim.note else "",
        ),
    )


def table(data: TableData) -> Markup:
    """Return a table in a box that scrolls on a narrow screen."""
    numeric = [
        all(is_number(_value(row[i])) or _value(row[i]) is None for row in data.rows) for i in range(len(data.columns))
    ]
    heads = [tag("th", name, scope="col", **_side(right)) for name, right in zip(data.columns, numeric, strict=True)]
    rows = [tag("tr", *(_cell(entry, right) for entry, right in zip(row, numeric, strict=True))) for row in data.rows]
    box = tag(
        "div",
        tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows)),
        class_="table-box",
        tabindex="0",  # makes it scrollable by keyboard
        role="region",
        aria_label=data.caption or "table",
    )
    # Outside the box, because a caption element inside it would scroll with the columns.
    return tag("figure", box, tag("figcaption", data.caption) if data.caption else "")


def _cell(entry: Any, right: bool) -> Markup:
    value = _value(entry)
    if not isinstance(entry, Cell) or not entry.mark:
        return tag("td", format_value(value), **_side(right))
    text = format_value(value)
    if entry.mark == "diverged" and not is_number(value):
        text = "diverged"
    return tag("td", tag("span", text, class_=entry.mark), **_side(right))


def _side(right: bool) -> dict[str, str]:
    return {"class_": "number"} if right else {}


def _value(entry: Any) -> Any:
    return entry.value if isinstance(entry, Cell) else entry


def provenance_list(facts: Mapping[str, str | Sequence[str]]) -> Markup:
    """Return the provenance of the run as an open details element; a sequence becomes a list."""
    if not facts:
        return Markup("")
    entries = [join(tag("dt", name), tag("dd", _fact(value))) for name, value in facts.items()]
    return tag(
        "details",
        tag("summary", "How this was made"),
        tag("dl", *entries, class_="provenance"),
        class_="provenance-box",
        open="",
    )


def _fact(value: str | Sequence[str]) -> Markup | str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return tag("ul", *(tag("li", str(each)) for each in value)) if value else "none"
    return format_value(value)
