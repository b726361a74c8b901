"""Progress of an experiment on a console: a bar with the remaining time on a terminal, otherwise plain lines.

The first Ctrl-C stops the experiment at its next call of `advance`, where its state is complete; the second stops it
immediately.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["console_progress"]

_LINES = 20  # number of plain lines per run


class ConsoleProgress:
    """The progress display that is passed to an experiment."""

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
        """Add completed work and show what is being done. Raises KeyboardInterrupt if a stop was requested."""
        self._done += done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, description=escape(doing))
        elif int(_LINES * self._done / self._total) > self._lines:
            self._lines = int(_LINES * self._done / self._total)
            share, elapsed = self._done / self._total, time.monotonic() - self._started
            left = elapsed * (1 - share) / share
            self._console.print(
                f"{share:4.0%}  {elapsed:5.0f} s, about {left:.0f} s left  {escape(doing)}", soft_wrap=True
            )
        if self.stop_requested:
            raise KeyboardInterrupt


@contextmanager
def console_progress(console: Console) -> Iterator[ConsoleProgress]:
    """Show the progress of one experiment, and handle Ctrl-C until the block ends."""
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
