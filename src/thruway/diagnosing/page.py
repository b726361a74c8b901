"""The report of a diagnosis: one self-contained HTML page with a card per finding."""

from dataclasses import replace
from pathlib import Path

from thruway.diagnosing.finding import SYMPTOMS, Finding
from thruway.diagnosing.pictures import Case, Picture, pictures_of
from thruway.diagnosing.pictures.overview import overview_pictures
from thruway.diagnosing.readable import ReadableDiagnosis
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.tried import Tried, best_sentence, prescription_card
from thruway.diagnosing.wording import (
    CODES,
    by_role,
    count,
    effects_of,
    evidence_text,
    middle_cut,
    number,
    printable,
    since_text,
    size_text,
    unseen_of,
    where_text,
)
from thruway.report import Card, CardFigure, CardList, Page, Section, TableData, write_page
from thruway.report.card import Tone
from thruway.runs.record import versions

__all__ = ["diagnosis_page", "write_report"]

ROLES = {"threshold": "decisive", "theory": "theory", "ruled out": "ruled\N{NO-BREAK SPACE}out", "context": "context"}
MOST_EFFECTS = 50
IN_LEAD = 4  # symptoms named at the top of the page


def write_report(diagnosis: ReadableDiagnosis, path: Path | str, prescription: Tried | None = None) -> Path:
    """Write the diagnosis as one self-contained HTML page.

    Args:
        diagnosis: the diagnosis of a trace with at least one step.
        path: file to write. It is written atomically.
        prescription: cures that were tried; the page then shows their measured curves and intervals.
    Returns:
        The path.
    Raises:
        RunError: if the file cannot be written.
    """
    return write_page(diagnosis_page(diagnosis, prescription), path)


def diagnosis_page(diagnosis: ReadableDiagnosis, prescription: Tried | None = None) -> Page:
    """Return the page: a card per cause, with its evidence drawn, then what was not seen, then the provenance."""
    reading = Reading(diagnosis.trace, diagnosis.losses)
    cards = [
        _card(reading, finding, place, len(diagnosis.findings)) for place, finding in enumerate(diagnosis.findings, 1)
    ]
    sections: list[Section | Card] = [*cards]
    tried = None if prescription is None else prescription_card(prescription)
    sections += [] if tried is None else [tried]
    if diagnosis.healthy:
        sections += _healthy(reading)
    if unseen_of(diagnosis):
        sections.append(_unseen(diagnosis))
    return Page(
        title=_title(diagnosis),
        subtitle=f"Diagnosis of {printable(diagnosis.trace.model)}, {size_text(diagnosis)}",
        lead=_lead(diagnosis) + ("" if tried is None or prescription is None else f" {best_sentence(prescription)}"),
        sections=tuple(sections),
        provenance=_provenance(diagnosis),
    )


def _title(diagnosis: ReadableDiagnosis) -> str:
    if diagnosis.healthy:
        return "Nothing was found"
    if len(diagnosis.findings) == 1:
        return _sentence(diagnosis.findings[0].symptom)
    return f"{count(len(diagnosis.findings), 'cause')} found"


def _lead(diagnosis: ReadableDiagnosis) -> str:
    unseen = count(len(unseen_of(diagnosis)), "symptom")
    more = f" This trace cannot show {unseen}: see the end of this page." if unseen_of(diagnosis) else ""
    if diagnosis.healthy:
        return f"None of the known symptoms is present in {size_text(diagnosis)}.{more}"
    if len(diagnosis.findings) > 1:
        first = [printable(each.symptom) for each in diagnosis.findings[:IN_LEAD]]
        rest = len(diagnosis.findings) - len(first)
        first += [f"and {count(rest, 'other')}"] if rest else []
        return f"{_sentence('; '.join(first))}.{more}"
    return printable(diagnosis.findings[0].cause)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _card(reading: Reading, finding: Finding, place: int, total: int) -> Card:
    pictures = pictures_of(reading, finding, with_loss=place == 1 or finding.since[0] is not None)
    parts: list[CardFigure | CardList | tuple[str, TableData]] = [_drawn(picture) for picture in pictures]
    if finding.evidence:
        parts.append(("Evidence", _evidence(finding)))
    if finding.cures:
        entries = tuple((_sentence(printable(cure.text)), printable(cure.source)) for cure in finding.cures)
        parts.append(CardList("What to try", entries))
    if finding.effects:
        parts.append(("What follows from it", _effects(finding)))
    facts = {"Where": where_text(finding), "When": since_text(finding)}
    if finding.end is not None:
        facts["End"] = f"the {finding.end} end of the activation"
    if finding.margin > 1:
        facts["Over the limit"] = (
            f"{number(finding.margin)} times" if finding.margin < 1000 else "more than 1,000 times"
        )
    chips: tuple[tuple[str, Tone], ...] = (
        ("cause" if total == 1 else f"cause {place} of {total}", "fails"),
        (f"confidence {finding.confidence:.0%}", ""),
    )
    # A single symptom and its cause are the heading of the page.
    return Card(
        _place(finding) if total == 1 else _sentence(printable(finding.symptom)),
        printable(finding.rule),
        "" if total == 1 else printable(finding.cause),
        chips,
        facts,
        tuple(parts),
    )


def _place(finding: Finding) -> str:
    where = where_text(finding).split(" (")[0]
    if finding.span is None and len(finding.sites) > 1:
        where = f"{where_text(replace(finding, sites=finding.sites[:1]))} and {count(len(finding.sites) - 1, 'other')}"
    where = _sentence(where) if where.startswith(("the ", "module ")) else where
    return f"{where}, {since_text(finding).split(' (')[0].split(',')[0]}"


def _drawn(picture: Picture) -> CardFigure:
    return CardFigure(picture.title, picture.caption, picture.figure, picture.is_wide)


def _evidence(finding: Finding) -> TableData:
    ordered = by_role(finding, "threshold") + by_role(finding, "theory") + by_role(finding, "ruled out", "context")
    rows = tuple(
        (
            ROLES[each.role],
            printable(each.text),
            None if each.quantity in CODES else each.value,
            None if each.quantity in CODES else each.expected,
            None if each.quantity in CODES else each.threshold,
            middle_cut(printable(each.site)) or "–",
            each.step,
        )
        for each in ordered
    )
    return TableData(("role", "evidence", "measured", "expected", "limit", "site", "step"), rows)


def _effects(finding: Finding) -> TableData:
    found = effects_of(finding.effects)
    rows = tuple(
        (
            printable(each.rule),
            where_text(each),
            since_text(each),
            evidence_text(each.evidence[0]) if each.evidence else printable(each.cause),
        )
        for each in found[:MOST_EFFECTS]
    )
    more = f"The first {MOST_EFFECTS} of {len(found):,}." if len(found) > MOST_EFFECTS else ""
    return TableData(("effect", "where", "when", "evidence"), rows, more)


def _healthy(reading: Reading) -> list[Section | Card]:
    pictures = overview_pictures(Case(reading, Finding("", "", since=(None, int(reading.steps[0])))))
    if not pictures:
        return []
    return [Card("The run at a glance", parts=tuple(_drawn(picture) for picture in pictures))]


def _unseen(diagnosis: ReadableDiagnosis) -> Section:
    rows = tuple(
        (printable(name), SYMPTOMS.get(name, printable(name).replace("_", " ")), printable(reason))
        for name, reason in unseen_of(diagnosis).items()
    )
    text = "The trace lacks the numbers that show these symptoms. They may be present nevertheless."
    return Section("Not seen", None, text, TableData(("symptom", "meaning", "reason"), rows))


def _provenance(diagnosis: ReadableDiagnosis) -> dict[str, str | list[str]]:
    trace = diagnosis.trace
    kinds = {kind: sum(site.kind == kind for site in trace.sites) for kind in ("output", "gradient", "parameter")}
    facts: dict[str, str | list[str]] = {
        "model": printable(trace.model),
        "trace": f"{size_text(diagnosis)}, {', '.join(count(n, kind) for kind, n in kinds.items() if n)}",
    }
    if trace.kept_every > 1:
        facts["kept"] = f"every {trace.kept_every}. sampled step, to save memory"
    if trace.failure is not None:
        facts["watching stopped"] = printable(str(trace.failure))[:200]
    facts["versions"] = ", ".join(f"{key} {value}" for key, value in versions().items())
    facts["made by"] = "tw.diagnose(trace).report(path)"
    return facts
