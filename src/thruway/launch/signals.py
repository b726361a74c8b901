"""Signals that arrive while traces are saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["child_signals_ignored"]


@contextlib.contextmanager
def child_signals_ignored() -> Iterator[None]:
    """Ignore, during the block, that child processes end.

    PyTorch handles SIGCHLD by raising a RuntimeError, wherever the main thread is, if a worker of a DataLoader has been
    killed. When a whole process group is ended, the workers die while this process still saves its traces.
    """
    number = getattr(signal, "SIGCHLD", None)  # Windows has none
    handler = None if number is None else signal.getsignal(number)
    if number is None or not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    # A function, since Python complains of a pending signal whose handler has been replaced by SIG_IGN or SIG_DFL.
    signal.signal(number, _ignore)
    try:
        yield
    finally:
        signal.signal(number, handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Return at once."""
