"""Mistakes made while watching: told to the user, kept from the training."""

import functools
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["WatchWarning", "guarded", "without_frames"]


class WatchWarning(UserWarning):
    """Watching ended early, or saw less than was asked for. Training is not affected."""


def without_frames(error: Exception) -> Exception:
    """The error with its traceback as a note: the traceback itself would keep the tensors of every frame alive."""
    error.add_note("".join(traceback.format_exception(error)))
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def guarded(
    callback: Callable[..., None], fail: Callable[[Exception], None], has_failed: Callable[[], bool]
) -> Callable[..., None]:
    """`callback`, whose errors go to `fail` and never reach the training; it does nothing once that has happened."""

    @functools.wraps(callback)
    def call(*arguments: Any, **keywords: Any) -> None:
        if has_failed():
            return
        try:
            callback(*arguments, **keywords)
        except Exception as error:
            fail(error)

    return call
