"""Mistakes made while watching: told to the user, kept from the training."""

import functools
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["WatchWarning", "guarded", "why_nothing", "without_frames"]


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


def why_nothing(model: str, steps: range, sampled: int, has_optimizer: bool) -> str:
    """Why a watched block has nothing to show: of `steps` that came through, `sampled` were listened to."""
    if not steps:
        how = "no step of its optimizer ended" if has_optimizer else "it was not called"
        return (
            f"{model} has no sampled step; {how} with gradients enabled inside the block. Watch the module that your "
            "loop calls, or pass optimizer=."
        )
    if not sampled:
        return (
            f"every= chose none of the {len(steps):,} steps from {steps.start}. Pass a number, or a function of the "
            "step that is true for some."
        )
    return f"no layer of {model} gave a dense tensor of real numbers, and other things are not measured."
