"""Progress of a long computation: a bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

__all__ = ["show_progress"]

_LINES = 20  # plain lines for a whole computation


@contextlib.contextmanager
def show_progress(label: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr during the block. Yields a function that takes the number of newly completed steps.

    Args:
        label: text next to the bar, or in the lines.
        total: number of steps. If None, no remaining time is shown.
        shown: If False, nothing is printed.
    """
    if not shown:
        yield lambda done: None
        return
    # Imported here, since most computations print nothing and need not wait for it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console)
        with bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.advance(task, done)
        return
    yield _lines(label, total, lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False))


def _lines(label: str, total: int | None, write: Callable[[str], None]) -> Callable[[int], None]:
    """Print at most _LINES lines if the total is known, else one each time the number of steps has doubled."""
    started, done, printed = time.monotonic(), 0, 0

    def advance(more: int) -> None:
        nonlocal done, printed
        done += more
        elapsed = time.monotonic() - started
        if total is None:
            if done >= 2 * max(printed, 1):
                printed = done
                write(f"{label}: {done:,} done, {elapsed:.0f} s")
        elif _LINES * done // max(total, 1) > printed:
            printed = _LINES * done // max(total, 1)
            left = elapsed * (total - done) / done
            write(f"{done / total:4.0%}  {label}, {elapsed:.0f} s, about {left:.0f} s left")

    return advance
