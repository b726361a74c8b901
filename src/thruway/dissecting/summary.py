"""Text and HTML summaries of a dissection."""

import html
from collections import Counter
from collections.abc import Sequence

from thruway.dissecting.finding.branches import Branch, nesting_depth
from thruway.dissecting.running.engine import Engine

__all__ = ["as_html", "as_text", "one_line"]

HEAD = ("", "branch", "kind", "shape", "parameters", "share", "flops", "inside")
REASONS = 6  # at most as many lines about rejected candidates

STYLE = "font: 13px/1.5 system-ui, sans-serif; max-width: 820px"
GREY = "color: #767b85"  # readable on a white and a black background
CELL = "font-size: 13px; white-space: nowrap; padding: 2px 14px 2px 0; border: 0; background: none"


def one_line(engine: Engine) -> str:
    """Return one line with the number of branches of each kind."""
    return f"Dissection of {type(engine.model).__name__}: {_count(engine.branches)}"


def as_text(engine: Engine) -> str:
    """Return the table of branches, and the reasons why candidates were rejected."""
    rows = _rows(engine)
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    lines = [
        "  ".join(cell.rjust(width) if place in (0, 4, 5, 6) else cell.ljust(width) for place, (cell, width) in row)
        for row in (list(enumerate(zip(cells, widths, strict=True))) for cells in (HEAD, *rows))
    ]
    parts = [one_line(engine), *(["", *(line.rstrip() for line in lines)] if rows else []), *_notes(engine)]
    return "\n".join(parts)


def as_html(engine: Engine) -> str:
    """Return the same table and reasons as HTML."""
    rows = _rows(engine)
    head = "".join(f'<th style="{CELL}; {GREY}; text-align: {_side(at)}">{name}</th>' for at, name in enumerate(HEAD))
    body = "".join(
        "<tr style='background: none'>"
        + "".join(
            f'<td style="{CELL}; text-align: {_side(at)}">{html.escape(cell)}</td>' for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    table = f'<table style="border-collapse: collapse; margin: 8px 0"><tr>{head}</tr>{body}</table>' if rows else ""
    notes = "".join(f'<div style="{GREY}">{html.escape(line)}</div>' for line in _notes(engine) if line)
    return f'<div style="{STYLE}"><b>{html.escape(one_line(engine))}</b>{table}{notes}</div>'


def _side(column: int) -> str:
    return "right" if column in (0, 4, 5, 6) else "left"


def _rows(engine: Engine) -> list[tuple[str, ...]]:
    total = sum(engine.tape.parameters) or 1
    return [
        (
            str(branch.index),
            "  " * nesting_depth(branch, engine.branches) + branch.name,
            branch.kind,
            _shape(branch),
            f"{branch.parameters:,}",
            f"{branch.parameters / total:.1%}",
            short_count(branch.flops),
            "" if branch.parent is None else str(branch.parent),
        )
        for branch in engine.branches
    ]


def _shape(branch: Branch) -> str:
    before, after = (" x ".join(map(str, shape)) for shape in (branch.input_shape, branch.output_shape))
    return after if before == after else f"{before} -> {after}"


def short_count(number: int) -> str:
    """Format a count with three digits and a unit.

    >>> short_count(0), short_count(999), short_count(12_345), short_count(3_400_000_000)
    ('0', '999', '12.3 k', '3.4 G')
    """
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _count(branches: Sequence[Branch]) -> str:
    kinds = Counter(branch.kind for branch in branches)
    if not kinds:
        return "no branch found"
    if set(kinds) == {"module"}:
        n = kinds["module"]
        return f"no shortcuts; {n} layer{'s' if n > 1 else ''} of a plain chain can be left out"
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{len(branches)} branch{'es' if len(branches) > 1 else ''} ({listed})"


def _notes(engine: Engine) -> list[str]:
    reasons = Counter(refusal.reason for refusal in engine.refused)
    first = {refusal.reason: refusal.name for refusal in reversed(engine.refused)}
    if not reasons:
        return []
    lines = [f"  {count:>4} x {reason} (first: {first[reason]})" for reason, count in reasons.most_common(REASONS)]
    more = [f"  and {len(reasons) - REASONS} other reasons, in .refused"] if len(reasons) > REASONS else []
    return ["", "Not branches:", *lines, *more]
