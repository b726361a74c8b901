"""HTML of claims, tables and provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from thruway.report.content import VERDICTS, Cell, ClaimVerdict, TableData
from thruway.report.formatting import format_value, format_values, is_number
from thruway.report.markup import Markup, join, tag

__all__ = ["claims_list", "provenance_list", "table"]


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
