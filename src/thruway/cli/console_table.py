"""Conversion of report tables to rich tables for the console."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from thruway.report import TableData
from thruway.report.content import Cell

__all__ = ["as_rich"]


def as_rich(table: TableData) -> Table:
    """Convert a report table to a rich table; the best value of a group is green, diverged ones are red."""
    shown = Table(*table.columns, box=None, padding=(0, 2, 0, 0))
    for row in table.rows:
        shown.add_row(*(_entry(value) for value in row))
    return shown


def _entry(value: Any) -> str:
    if isinstance(value, Cell):
        style = {"best": "bold green", "diverged": "red"}.get(value.mark, "")
        return f"[{style}]{_entry(value.value)}[/]" if style else _entry(value.value)
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
