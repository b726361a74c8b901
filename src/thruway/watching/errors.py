"""The warning of `watch`, and the handling of errors during recording, which never reach the training loop."""

import functools
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["WatchWarning", "catching", "without_frames"]


class WatchWarning(UserWarning):
    """Issued if recording stopped early, or recorded less than requested. Training is not affected."""


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
