"""Tables of a report: final losses, and the comparison with the paper."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from thruway.figures.theme import block_styles
from thruway.report.content import Cell, TableData
from thruway.report.losses import has_diverged

__all__ = ["final_loss_table", "paper_comparison"]


def final_loss_table(rows: Sequence[Mapping[str, Any]], *, top: int = 10) -> TableData:
    """Table of every block at every depth: best trial, mean of the best few, number of diverged trials, and cost.

    The best final loss of each depth is highlighted.

    Args:
        rows: one mapping per trial with `block`, `depth`, `final_loss`, and optionally `diverged` and `seconds`.
        top: number of best trials in the mean; fewer if not as many converged.
    Source:
        Best of the search and mean of the top 10: Srivastava, Greff & Schmidhuber 2015, fig. 1.

    >>> rows = [{"block": "plain", "depth": 10, "final_loss": loss} for loss in (0.5, 0.1, float("nan"))]
    >>> final_loss_table(rows).rows
    ((10, 'plain', 0.1, 0.3, 3, Cell(value=1, mark='diverged'), None),)
    """
    order = list(block_styles(row["block"] for row in rows))
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["depth"], order.index(row["block"])), []).append(row)
    losses = {key: sorted(row["final_loss"] for row in each if not has_diverged(row)) for key, each in groups.items()}
    table = []
    for depth, block in sorted(groups):
        kept = losses[depth, block]
        rivals = [other[0] for (other_depth, _), other in losses.items() if other_depth == depth and other]
        diverged = len(groups[depth, block]) - len(kept)
        best: Any = kept[0] if kept else Cell(None, "diverged")
        if kept and len([key for key in groups if key[0] == depth]) > 1 and best == min(rivals):
            best = Cell(best, "best")
        seconds = [row["seconds"] for row in groups[depth, block] if row.get("seconds") is not None]
        table.append(
            (
                depth,
                order[block],
                best,
                statistics.fmean(kept[:top]) if kept else None,
                len(groups[depth, block]),
                Cell(diverged, "diverged") if diverged else 0,
                statistics.fmean(seconds) if seconds else None,
            )
        )
    columns = ("depth", "block", "best final loss", f"mean of best {top}", "trials", "diverged", "seconds per trial")
    return TableData(columns, tuple(table), "Final training loss in nats; the best of each depth is marked.")


def paper_comparison(entries: Sequence[tuple[str, Any, Any, str]], *, caption: str = "") -> TableData:
    """Table of the paper's numbers and ours.

    Args:
        entries: (quantity with its unit, number of the paper, our number, place in the paper); None for an unknown
            number.
        caption: caption of the table, such as the limits of the comparison.

    >>> paper_comparison([("final loss, depth 10 (nats)", "< 1e-4", 0.002, "fig. 1")]).rows
    (('final loss, depth 10 (nats)', '< 1e-4', 0.002, 'fig. 1'),)
    """
    return TableData(("quantity", "paper", "this run", "where in the paper"), tuple(map(tuple, entries)), caption)
