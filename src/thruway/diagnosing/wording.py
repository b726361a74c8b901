"""Words of a finding, shared by text, notebook and report: numbers, steps, places, and the roles of evidence."""

import math
import re
from collections.abc import Sequence

from thruway.diagnosing.finding import Cure, Evidence, Finding
from thruway.diagnosing.readable import ReadableDiagnosis

__all__ = [
    "CODES",
    "by_role",
    "count",
    "cure_text",
    "effects_of",
    "evidence_text",
    "middle_cut",
    "number",
    "printable",
    "since_text",
    "size_text",
    "unseen_groups",
    "unseen_of",
    "verdict_text",
    "where_text",
]

LONGEST_NAME = 48  # characters of a site's name in a sentence
CODES = frozenset(("state", "loss_graph"))  # numbers that encode a fact, which the sentence states


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with a few significant digits.

    >>> [number(v) for v in (0.15712, 24_000.0, 1200.0, 2.4e-14, float("nan"), float("-inf"), None)]
    ['0.157', '24,000', '1,200', '2.4e-14', 'NaN', '-inf', 'unknown']
    """
    if value is None:
        return "unknown"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:,.0f}" if 10**digits - 0.5 <= abs(value) < 1e6 else f"{value:.{digits}g}"


def count(amount: int, noun: str) -> str:
    """Return a number and a noun.

    >>> count(1, "finding"), count(1200, "step")
    ('1 finding', '1,200 steps')
    """
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def printable(text: str) -> str:
    """Replace characters that would break a line or control a terminal.

    >>> printable("fc1\\n\\x1b[31m")
    'fc1 �[31m'
    """
    return "".join(
        each if each.isprintable() else " " if each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def middle_cut(name: str, longest: int = LONGEST_NAME) -> str:
    """Shorten a name by its middle.

    >>> middle_cut("encoder.layers.11.attention.output", 17)
    'encoder.…n.output'
    """
    if len(name) <= longest:
        return name
    end = longest // 2
    return name[: longest - 1 - end] + "…" + name[-end:]


def site_text(name: str) -> str:
    """Return the name of a site as it stands in a sentence; the root module has an empty name.

    >>> site_text(""), site_text("fc1.weight"), site_text("40")
    ('the model itself', 'fc1.weight', 'module 40')
    """
    if not name:
        return "the model itself"
    return f"module {name}" if name.isdigit() else middle_cut(printable(name))


def where_text(finding: Finding) -> str:
    """Return the affected layers: the span in depth, or the number of sites, and the worst of them.

    >>> where_text(Finding("saturated", "", ("h.3", "h.1", "h.2"), since=(None, 0), span=("h.1", "h.3")))
    'h.1 to h.3 (worst: h.3)'
    >>> where_text(Finding("diverging", "", since=(None, 0)))
    'the whole network'
    """
    if not finding.sites:
        return "the whole network" if finding.span is None else _range(finding.span)
    if len(finding.sites) == 1:
        return site_text(finding.sites[0])
    worst = f"worst: {site_text(finding.sites[0])}"
    # A rule may name only the worst sites of a span, so their number is not that of all affected ones.
    if finding.span is not None and finding.span[0] != finding.span[1]:
        return f"{_range(finding.span)} ({worst})"
    return f"{count(len(finding.sites), 'site')}, {worst}"


def _range(span: tuple[str, str]) -> str:
    first, last = map(site_text, span)
    return first if first == last else f"{first} to {last}"


def since_text(finding: Finding) -> str:
    """Return the steps with the symptom.

    >>> since_text(Finding("dying_relu", "", since=(110, 120))), since_text(Finding("poor_init", "", since=(None, 0)))
    ('since step 120 (not yet at step 110)', 'since step 0, the first recorded one')
    """
    before, first = finding.since
    if finding.until is not None:
        end = f"step {first:,} only" if finding.until == first else f"step {first:,} to {finding.until:,}"
        return f"at {end}" if finding.until == first else f"from {end}"
    since = f"since step {first:,}"
    return f"{since}, the first recorded one" if before is None else f"{since} (not yet at step {before:,})"


def size_text(diagnosis: ReadableDiagnosis) -> str:
    """Return the recorded steps, in words."""
    steps = diagnosis.trace.steps
    if len(steps) < 2:
        return f"1 recorded step ({steps[0]:,})" if steps else "0 recorded steps"
    return f"{len(steps):,} recorded steps ({steps[0]:,} to {steps[-1]:,})"


def verdict_text(diagnosis: ReadableDiagnosis) -> str:
    """Return the number of causes and effects, or "healthy"."""
    causes = len(diagnosis.findings)
    if not causes:
        return "healthy, nothing was found"
    effects = sum(depth > 0 for depth, _ in diagnosis.every_finding())
    causes_text = count(causes, "finding") if not effects else count(causes, "cause")
    return f"{causes_text} and {count(effects, 'effect')}" if effects else causes_text


def by_role(finding: Finding, *roles: str) -> tuple[Evidence, ...]:
    """Return the evidence with one of the roles, in the finding's order."""
    return tuple(each for each in finding.evidence if each.role in roles)


def evidence_text(evidence: Evidence) -> str:
    """Return the sentence of a piece of evidence, with those of its numbers that the sentence does not contain.

    >>> evidence_text(Evidence("std", "h.1", 0, 7.5, "the inputs of tanh are large", "threshold", 1.0, 3.0))
    'the inputs of tanh are large: 7.5 (expected 1, limit 3)'
    >>> evidence_text(Evidence("std", "h.1", 0, 0.94, "94 % of the values are saturated", "threshold", None, 0.3))
    '94 % of the values are saturated (limit 0.3)'
    """
    text = printable(evidence.text).rstrip(". ")
    if evidence.quantity in CODES:
        return text
    words = text.replace(evidence.site, "") if evidence.site else text
    # A sentence with digits has the measured number already, perhaps in another form such as a percentage.
    is_number = evidence.role in ("threshold", "theory") and math.isfinite(evidence.value)
    if is_number and not any(each.isdigit() for each in words):
        text += f": {number(evidence.value)}"
    named = {"expected": evidence.expected, "limit": evidence.threshold}
    missing = [
        f"{name} {number(value)}" for name, value in named.items() if value is not None and not _has(words, value)
    ]
    return f"{text} ({', '.join(missing)})" if missing else text


def _has(text: str, value: float) -> bool:
    """Return True if a text contains a number, rounded to two digits or more, or as a percentage.

    >>> _has("theory expects 0.14 a layer", 0.1414), _has("at most 3 % of them", 0.03), _has("at step 30", 3.0)
    (True, True, False)
    """
    numbers = (float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", text))
    return any(math.isclose(each, near, rel_tol=0.05) for each in numbers for near in (value, 100 * value))


def cure_text(cure: Cure) -> str:
    """Return a cure with its source."""
    return f"{printable(cure.text)} ({printable(cure.source)})" if cure.source else printable(cure.text)


def unseen_groups(diagnosis: ReadableDiagnosis) -> list[tuple[str, list[str]]]:
    """Return (reason, names of the symptoms) of what the trace could not show and no finding names."""
    groups: dict[str, list[str]] = {}
    for name, reason in unseen_of(diagnosis).items():
        groups.setdefault(printable(reason).strip(), []).append(printable(name))
    return list(groups.items())


def unseen_of(diagnosis: ReadableDiagnosis) -> dict[str, str]:
    """Return the reasons by symptom, without those that were found all the same, by other evidence."""
    found = {finding.rule for _, finding in diagnosis.every_finding()}
    return {name: reason for name, reason in diagnosis.unseen.items() if name not in found}


def effects_of(findings: Sequence[Finding]) -> list[Finding]:
    """Return the effects of findings, and the effects of these."""
    found: list[Finding] = []
    for finding in findings:
        found += [finding, *effects_of(finding.effects)]
    return found
