"""The branches of a model as a table for a console: what identifies a branch is never cut short."""

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from thruway.dissecting import Branch, Deletion
from thruway.report import DissectionFindings

__all__ = ["branches_on_console"]


def branches_on_console(found: DissectionFindings) -> Table:
    """What leaving each branch out does; without data, what each is."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    columns, rows = _lesions(found) if found.is_measured else _structure(found.dissection.branches)
    for number, column in enumerate(columns):
        # Long names go on in the next line; numbers stand below one another.
        is_name = number == 1
        table.add_column(column, overflow="fold", no_wrap=not is_name, justify="left" if number in (1, 2) else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _lesions(found: DissectionFindings) -> tuple[list[str], list[list[str]]]:
    scores = {} if found.rankings is None else found.rankings.scores
    foretold = [
        (name, scores[key]) for key, name in (("predicted", "predicted"), ("influence", "1 - cos")) if key in scores
    ]
    worst = [each.ranked()[0].index for each in found.deletions]
    rows = []
    for place, branch in enumerate(found.dissection.branches):
        row = [str(branch.index), escape(branch.name), branch.kind]
        for each, missed_most in zip(found.deletions, worst, strict=True):
            row.append(_change(each.rows[place], is_worst=branch.index == missed_most))
        rows.append(row + [_number(values[place]) for _, values in foretold])
    columns = ["", "without", "kind", *(each.metric for each in found.deletions), *(name for name, _ in foretold)]
    return columns, rows


def _structure(branches: Sequence[Branch]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            str(branch.index),
            escape(branch.name),
            branch.kind,
            "x".join(map(str, branch.output_shape)),
            f"{branch.parameters:,}",
            f"{branch.flops:,}",
        ]
        for branch in branches
    ]
    return ["", "branch", "kind", "output", "parameters", "FLOPs"], rows


def _change(row: Deletion, *, is_worst: bool) -> str:
    told = f"{row.change:+.3g}" if math.isfinite(row.change) else "–"
    return f"[bold green]{told}[/]" if is_worst else told


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"
