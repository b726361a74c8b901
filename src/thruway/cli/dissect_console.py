"""The table of branches for a console. Names of branches are wrapped, never truncated."""

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from thruway.dissecting import Branch, Deletion
from thruway.report import DissectionFindings

__all__ = ["branches_on_console"]


def branches_on_console(found: DissectionFindings) -> Table:
    """The effect of leaving out each branch; without data, its kind and size."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    columns, rows = _lesions(found) if found.is_measured else _structure(found.dissection.branches)
    for number, column in enumerate(columns):
        # Long names continue in the next line; numbers are aligned.
        is_name = number == 1
        table.add_column(column, overflow="fold", no_wrap=not is_name, justify="left" if number in (1, 2) else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _lesions(found: DissectionFindings) -> tuple[list[str], list[list[str]]]:
    scores = {} if found.rankings is None else found.rankings.scores
    scores_shown = [
        (name, scores[key]) for key, name in (("predicted", "predicted"), ("influence", "1 - cos")) if key in scores
    ]
    worst = [each.ranked()[0].index for each in found.deletions]
    rows = []
    for place, branch in enumerate(found.dissection.branches):
        row = [str(branch.index), escape(branch.name), branch.kind]
        for each, most_important in zip(found.deletions, worst, strict=True):
            row.append(_change(each.rows[place], is_worst=branch.index == most_important))
        rows.append(row + [_number(values[place]) for _, values in scores_shown])
    columns = ["", "without", "kind", *(each.metric for each in found.deletions), *(name for name, _ in scores_shown)]
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
    text = f"{row.change:+.3g}" if math.isfinite(row.change) else "–"
    return f"[bold green]{text}[/]" if is_worst else text


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"
