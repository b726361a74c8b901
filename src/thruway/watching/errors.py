"""The warning of `watch`, and the handling of errors during recording, which never reach the training loop."""

import contextlib
import functools
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["WatchWarning", "catching", "warn", "warnings_shown_by", "without_frames"]


class WatchWarning(UserWarning):
    """Issued if recording stopped early, or recorded less than requested. Training is not affected."""


_show: Callable[[str], None] | None = None


def warn(message: str, stacklevel: int) -> None:
    """Issue a WatchWarning; under `warnings_shown_by`, pass its message to that function instead."""
    if _show is not None:
        _show(message)
    else:
        warnings.warn(message, WatchWarning, stacklevel=stacklevel + 1)


@contextlib.contextmanager
def warnings_shown_by(show: Callable[[str], None]) -> Iterator[None]:
    """Call `show` with each message instead of issuing a warning.

    A program that is watched unchanged may turn warnings into errors, or collect them.

    >>> with warnings_shown_by(print):
    ...     warn("recording stopped", stacklevel=1)
    recording stopped
    """
    global _show
    before, _show = _show, show
    try:
        yield
    finally:
        _show = before


def without_frames(error: Exception) -> Exception:
    """Replace the traceback of an error by a note, since a traceback keeps the tensors of every frame alive."""
    error.add_note("".join(traceback.format_exception(error)))
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def catching(
    callback: Callable[..., None], fail: Callable[[Exception], None], has_failed: Callable[[], bool]
) -> Callable[..., None]:
    """Return `callback` with its exceptions passed to `fail` instead of raised; after a failure it does nothing."""

    @functools.wraps(callback)
    def call(*arguments: Any, **keywords: Any) -> None:
        if has_failed():
            return
        try:
            callback(*arguments, **keywords)
        except Exception as error:
            fail(error)

    return call
