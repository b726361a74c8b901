"""Mistakes made while watching: told to the user, kept from the training."""

import traceback

__all__ = ["WatchWarning", "without_frames"]


class WatchWarning(UserWarning):
    """Watching ended early, or saw less than was asked for. Training is not affected."""


def without_frames(error: Exception) -> Exception:
    """The error with its traceback as a note: the traceback itself would keep the tensors of every frame alive."""
    error.add_note("".join(traceback.format_exception(error)))
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
