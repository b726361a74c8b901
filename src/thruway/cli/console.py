"""Console output of a study: its progress, its report's table and verdicts.

Progress is a bar with the remaining time on a terminal, otherwise plain lines. The first Ctrl-C stops the study at its
next call of `advance`, where its state is complete; the second stops it immediately.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from thruway.experiments import Study
from thruway.report import Cell, ClaimVerdict, TableData
from thruway.runs import RunReader

__all__ = ["console_progress", "duration", "out", "show_report"]

out = Console(highlight=False)

_LINES = 20  # number of plain lines per run


class ConsoleProgress:
    """The progress display that is passed to a study."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self.stop_requested = False
        self._console, self._bar, self._task = console, bar, None if bar is None else bar.add_task("", total=None)
        self._total, self._done, self._lines, self._started = 1.0, 0.0, 0, time.monotonic()

    def begin(self, total: float) -> None:
        """Set the total amount of work."""
        self._total, self._started = total, time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def advance(self, done: float, doing: str) -> None:
        """Add completed work and show the current work. Raises KeyboardInterrupt if a stop was requested."""
        self._done += done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, description=escape(doing))
        elif int(_LINES * self._done / self._total) > self._lines:
            self._lines = int(_LINES * self._done / self._total)
            share, elapsed = self._done / self._total, time.monotonic() - self._started
            left = elapsed * max(0.0, 1 - share) / share
            self._console.print(
                f"{share:4.0%}  {elapsed:5.0f} s, about {left:.0f} s left  {escape(doing)}", soft_wrap=True
            )
        if self.stop_requested:
            raise KeyboardInterrupt


@contextmanager
def console_progress(console: Console) -> Iterator[ConsoleProgress]:
    """Show the progress of one study, and handle Ctrl-C until the block ends."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    bar = Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console)
    progress = ConsoleProgress(console, bar if console.is_terminal else None)

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        if progress.stop_requested:
            raise KeyboardInterrupt
        progress.stop_requested = True
        console.print("stopping after this epoch; press Ctrl-C again to stop immediately", soft_wrap=True)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        if console.is_terminal:
            with bar:
                yield progress
        else:
            yield progress
    finally:
        signal.signal(signal.SIGINT, before)


def show_report(study: Study, reader: RunReader) -> None:
    """Write the report of a run folder, and print its table and verdicts."""
    folder = reader.folder
    table, verdicts = study.report(reader, folder)
    out.print(_as_rich(table))
    for verdict in verdicts:
        out.print(_verdict_line(verdict), soft_wrap=True)
    out.print(
        f"\nreport   {escape(str(folder / 'report.html'))}\nsummary  {escape(str(folder / 'summary.json'))}",
        soft_wrap=True,
    )


def _verdict_line(verdict: ClaimVerdict) -> str:
    style = {"holds": "green", "fails": "red"}.get(verdict.verdict, "yellow")
    values = [verdict.value] if isinstance(verdict.value, float) else verdict.value
    numbers = ", ".join(f"{value:.3g}" for value in values)
    note = f" ({escape(verdict.note)})" if verdict.note else ""
    return (
        f"[{style}]{verdict.verdict:>8}[/]  {escape(verdict.text)}  {numbers}, needs {escape(verdict.threshold)}{note}"
    )


def _as_rich(table: TableData) -> Table:
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


def duration(seconds: float) -> str:
    """Format a duration.

    >>> duration(12.3), duration(125)
    ('12 s', '2 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
