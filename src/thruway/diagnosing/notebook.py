"""HTML view of a diagnosis for notebooks, without scripts, and readable on light and dark backgrounds."""

import html

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.readable import ReadableDiagnosis
from thruway.diagnosing.wording import (
    by_role,
    count,
    cure_text,
    effects_of,
    evidence_text,
    printable,
    since_text,
    size_text,
    unseen_groups,
    unseen_of,
    verdict_text,
    where_text,
)

__all__ = ["diagnosis_html"]

STYLE = "font: 13px/1.5 system-ui, sans-serif; max-width: 760px; overflow-wrap: anywhere"
GREY = "color: #767b85"  # as in the figures: readable on white and black
MARK = "#d9622b"
OPEN = 3  # findings whose evidence is shown at once; that of the others unfolds


def diagnosis_html(diagnosis: ReadableDiagnosis) -> str:
    """Return the findings with their evidence, cures and effects, and what was not seen."""
    head = (
        f"<div><b>Diagnosis of {_text(diagnosis.trace.model)}</b>: {verdict_text(diagnosis)} "
        f'<span style="{GREY}">in {size_text(diagnosis)}</span></div>'
    )
    cards = (_card(finding, is_open=place < OPEN) for place, finding in enumerate(diagnosis.findings))
    return f'<div style="{STYLE}">{head}{"".join(cards)}{_unseen(diagnosis)}</div>'


def _card(finding: Finding, *, is_open: bool) -> str:
    decisive = by_role(finding, "threshold")[:1] or finding.evidence[:1]
    labels = {"threshold": "measured", "theory": "theory", "ruled out": "ruled out", "context": "context"}
    first = [_row(labels[each.role], evidence_text(each)) for each in decisive]
    others = [_row(labels[each.role], evidence_text(each)) for each in _ordered(finding) if each not in decisive]
    cures = [_row("" if place else "try", cure_text(cure)) for place, cure in enumerate(finding.cures)]
    effects = [
        _row("" if place else "effects", f"{each.rule} {since_text(each)}, {where_text(each)}")
        for place, each in enumerate(effects_of(finding.effects))
    ]
    rows = _table([*first, *others, *cures, *effects])
    return (
        f'<div style="border-left: 3px solid {MARK}; padding-left: 11px; margin: 12px 0">'
        f"<div>{_head(finding)}</div><div>{_text(finding.cause)}</div>"
        f'<details{" open" if is_open else ""}><summary style="{GREY}; cursor: pointer">evidence and cures</summary>'
        f"{rows}</details></div>"
    )


def _head(finding: Finding) -> str:
    return (
        f"<b>{_text(finding.rule)}</b> <span style='{GREY}'>{_text(since_text(finding))} · "
        f"{_text(where_text(finding))} · confidence {finding.confidence:.0%}</span><br>"
    )


def _ordered(finding: Finding) -> tuple[Evidence, ...]:
    return by_role(finding, "threshold") + by_role(finding, "theory") + by_role(finding, "ruled out", "context")


def _table(rows: list[str]) -> str:
    # Only the left column has a fixed width, so that sentences wrap on a narrow page.
    return (
        f'<table style="border-collapse: collapse; margin: 2px 0 0; width: 100%"><tbody>{"".join(rows)}</tbody></table>'
        if rows
        else ""
    )


def _row(label: str, text: str) -> str:
    cell = "font-size: 13px; text-align: left; vertical-align: top; padding: 1px 0; border: 0; background: none"
    return (
        f'<tr style="background: none"><td style="{cell}; {GREY}; width: 76px">{label}</td>'
        f'<td style="{cell}; white-space: normal">{_text(text)}</td></tr>'
    )


def _unseen(diagnosis: ReadableDiagnosis) -> str:
    groups = unseen_groups(diagnosis)
    if not groups:
        return ""
    lines = "".join(f"<div>{_text(', '.join(names))}: {_text(reason)}</div>" for reason, names in groups)
    return (
        f'<details style="{GREY}"{" open" if len(groups) < 3 else ""}>'
        f"<summary>not seen: {count(len(unseen_of(diagnosis)), 'symptom')} that this trace could not show</summary>"
        f"{lines}</details>"
    )


def _text(text: str) -> str:
    return html.escape(printable(text))
