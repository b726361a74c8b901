"""How far a long sweep is, and how long it will take: a bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

__all__ = ["progressing"]

_LINES = 20  # plain lines in a whole sweep


@contextlib.contextmanager
def progressing(what: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """For the block, a function to call with how many more are done; says nothing unless `shown`.

    `total` None: not known before the end; then it tells how many are done, and no time left.
    """
    if not shown:
        yield lambda done: None
        return
    # Here, since most sweeps are silent and should not wait for it.
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
            task = bar.add_task(what, total=total)
            yield lambda done: bar.advance(task, done)
        return
    yield _lines(what, total, lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False))


def _lines(what: str, total: int | None, say: Callable[[str], None]) -> Callable[[int], None]:
    """At most _LINES lines where the end is known; otherwise one each time the work has doubled."""
    started, done, said = time.monotonic(), 0, 0

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        elapsed = time.monotonic() - started
        if total is None:
            if done >= 2 * max(said, 1):
                said = done
                say(f"{what}: {done:,} done, {elapsed:.0f} s")
        elif _LINES * done // max(total, 1) > said:
            said = _LINES * done // max(total, 1)
            left = elapsed * (total - done) / done
            say(f"{done / total:4.0%}  {what}, {elapsed:.0f} s, about {left:.0f} s left")

    return advance
