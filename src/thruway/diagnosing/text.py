"""Text of a diagnosis, as shown by `print(tw.diagnose(trace))`: one screen of 100 columns."""

import textwrap
from collections.abc import Sequence

from thruway.diagnosing.finding import Cure, Finding
from thruway.diagnosing.readable import ReadableDiagnosis
from thruway.diagnosing.wording import (
    by_role,
    count,
    cure_text,
    effects_of,
    evidence_text,
    middle_cut,
    printable,
    since_text,
    size_text,
    unseen_groups,
    unseen_of,
    verdict_text,
    where_text,
)

__all__ = ["diagnosis_text", "findings_lines"]

COLUMNS = 100
SCREEN = 24  # lines
IN_FULL = 2  # findings with their evidence; the others have one line each
MOST_BRIEF = 8
LABEL = 12  # columns of the labels "measured", "theory" ...


def diagnosis_text(diagnosis: ReadableDiagnosis) -> str:
    """Return the diagnosis as one screen of text, at most 100 columns wide."""
    name = middle_cut(printable(diagnosis.trace.model))
    lines = [f"Diagnosis of {name}: {verdict_text(diagnosis)} in {size_text(diagnosis)}"]
    last = unseen_line(diagnosis)
    if diagnosis.healthy:
        return "\n".join([*lines, *last])
    shown = diagnosis.findings[:IN_FULL]
    brief = findings_lines(diagnosis, MOST_BRIEF)[IN_FULL:]
    # A blank line before each finding, before the others and before the last line.
    room = SCREEN - len(lines) - len(last) - bool(last) - len(shown)
    needs = [len(_finding_lines(finding, "1. ", SCREEN)) for finding in shown]
    for place, finding in enumerate(shown):
        # A finding may use what the ones after it do not need, beyond their equal share.
        share = room // (len(shown) - place)
        later = sum(min(need, share) for need in needs[place + 1 :])
        block = _finding_lines(finding, f"{place + 1}. ", room - later)
        room -= len(block)
        lines += ["", *block]
    lines += ["", *brief] if brief else []
    return "\n".join([*lines, *(["", *last] if last else [])])


def findings_lines(diagnosis: ReadableDiagnosis, limit: int = 3) -> list[str]:
    """Return one line of at most 100 columns per cause, for the summary of a trace.

    Args:
        diagnosis: findings to show.
        limit: number of causes; a last line counts the others.

    >>> from thruway.diagnosing import Diagnosis, Finding
    >>> from thruway.watching.sites import Registry
    >>> from thruway.watching.trace.trace import Trace
    >>> finding = Finding("diverging", "The loss rises from 2.3 to 80.", since=(10, 11))
    >>> findings_lines(Diagnosis((finding,), {}, Trace("Net", Registry(), None, 1)))
    ['1. diverging since step 11, the whole network: The loss rises from 2.3 to 80.']
    """
    if diagnosis.healthy:
        return ["no findings"]
    lines = [
        _fit(f"{place}. {_brief(finding)}: {printable(finding.cause)}")
        for place, finding in enumerate(diagnosis.findings[:limit], 1)
    ]
    rest = diagnosis.findings[limit:]
    if rest:
        names = ", ".join(printable(each.rule) for each in rest)
        lines.append(_fit(f"and {count(len(rest), 'other finding')}: {names}"))
    return lines


def unseen_line(diagnosis: ReadableDiagnosis) -> list[str]:
    """Return the line of what the trace could not show, or nothing. `Diagnosis.unseen` has all reasons."""
    groups = unseen_groups(diagnosis)
    if not groups:
        return []
    if len(groups) == 1:
        (reason, names), start = groups[0], "Not seen: "
        return _wrapped(f"{', '.join(names)} ({reason.rstrip('.')})", start, "", 2)
    return _wrapped(", ".join(map(printable, unseen_of(diagnosis))), "Not seen (reasons in .unseen): ", "", 2)


def _finding_lines(finding: Finding, start: str, room: int) -> list[str]:
    """Return a finding in at most `room` lines: what matters least is left out first."""
    indent = " " * len(start)
    ends = {"low": ", at the low end", "high": ", at the high end", None: ""}
    head = _wrapped(f"{printable(finding.rule)}: {printable(finding.symptom)}{ends[finding.end]}", start, indent, 1)
    where = _wrapped(
        f"{since_text(finding)}; {where_text(finding)}; confidence {finding.confidence:.0%}", indent, indent, 2
    )
    cause = _wrapped(printable(finding.cause), indent, indent, 4)
    decisive = by_role(finding, "threshold")[:1] or finding.evidence[:1]
    measured = [line for each in decisive for line in _labelled("measured", evidence_text(each), indent, 3)]
    theory = [
        line for each in by_role(finding, "theory")[:1] for line in _labelled("theory", evidence_text(each), indent, 3)
    ]
    ruled_out = [
        line
        for each in by_role(finding, "ruled out")[:1]
        for line in _labelled("ruled out", evidence_text(each), indent, 2)
    ]
    cures = [_cure_line("or" if place else "try", cure, indent) for place, cure in enumerate(finding.cures)]
    effects = _effect_lines(finding, indent, 3)
    parts = [[*head, *where], cause, measured, theory, ruled_out, cures[:2], effects]
    # Shorten until it fits: effects to one line, one cure, one line per piece of evidence, and at last the cause.
    shorter: Sequence[tuple[int, list[str]]] = [
        (6, _effect_lines(finding, indent, 1)),
        (5, cures[:1]),
        (3, _first(theory, 2)),
        (1, _first(cause, 3)),
        (4, _first(ruled_out, 1)),
        (3, _first(theory, 1)),
        (2, _first(measured, 2)),
        (1, _first(cause, 2)),
        (2, _first(measured, 1)),
        (0, [*head, *_first(where, 1)]),
    ]
    for place, less in shorter:
        if sum(map(len, parts)) > room:
            parts[place] = less
    return [line for part in parts for line in part][:room]


def _cure_line(label: str, cure: Cure, indent: str) -> str:
    """Return a cure in one line, with its source if there is room."""
    line = f"{indent}{label:<{LABEL}}{cure_text(cure)}"
    return line if len(line) <= COLUMNS else _labelled(label, printable(cure.text), indent, 1)[0]


def _effect_lines(finding: Finding, indent: str, most: int) -> list[str]:
    """Return the effects, one line each; if there are more than `most`, the last line counts the others."""
    found = effects_of(finding.effects)
    shown = found if len(found) <= most else found[: most - 1]
    lines = [_labelled("effect", f"{_brief(each)}", indent, 1)[0] for each in shown]
    if len(shown) < len(found):
        rest = found[len(shown) :]
        names = ", ".join(dict.fromkeys(printable(each.rule) for each in rest))
        lines.append(_labelled("effects" if not lines else "", f"{count(len(rest), 'finding')}: {names}", indent, 1)[0])
    return lines


def _brief(finding: Finding) -> str:
    return f"{printable(finding.rule)} {since_text(finding).split(' (')[0].split(',')[0]}, {where_text(finding)}"


def _labelled(label: str, text: str, indent: str, most: int) -> list[str]:
    return _wrapped(text, f"{indent}{label:<{LABEL}}", indent + " " * LABEL, most)


def _wrapped(text: str, start: str, indent: str, most: int) -> list[str]:
    """Break a text into at most `most` lines; a longer text ends in an ellipsis."""
    return textwrap.wrap(
        text, COLUMNS, initial_indent=start, subsequent_indent=indent, max_lines=most, placeholder=" …"
    ) or [start.rstrip()]


def _first(lines: list[str], most: int) -> list[str]:
    """Return the first lines; if that leaves some out, the last of them ends in an ellipsis."""
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: COLUMNS - 2].rstrip() + " …"]


def _fit(text: str) -> str:
    return text if len(text) <= COLUMNS else text[: COLUMNS - 2].rstrip() + " …"
