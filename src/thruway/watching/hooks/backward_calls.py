"""Notification of calls of `torch.autograd.backward`, in which every usual way to start a backward pass ends.

Tensor.backward, GradScaler, Lightning and Accelerate look the function up when they call it, so replacing it is enough.
A reference that was imported by name (`from torch.autograd import backward`) is not replaced.
"""

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch

__all__ = ["BackwardCalls", "BackwardListener"]


class BackwardListener(Protocol):
    """Receives the backward calls of the program. Exceptions raised here reach the training loop."""

    def before_backward(self) -> None:
        """Handle the beginning of a call."""

    def after_backward(self, tensors: Any, grad_tensors: Any) -> None:
        """Handle the end of a call that raised nothing, with its first two arguments."""


class BackwardCalls:
    """Replaces `torch.autograd.backward` while there is a listener.

    Several watches may overlap in any order: the first one replaces the function, and the last one restores it. If
    another program has replaced it in the meantime, it is left as it is, and our function, which that one calls, passes
    every call on. A listener is not kept alive: a program may drop a model while it is watched.
    """

    _listeners: ClassVar[dict["weakref.ref[BackwardListener]", None]] = {}
    _original: ClassVar[Callable[..., None]]
    _replacement: ClassVar[Callable[..., None] | None] = None

    @classmethod
    def add(cls, listener: BackwardListener) -> None:
        """Notify a listener of all following calls, until `remove`."""
        if not cls._listeners and torch.autograd.backward is not cls._replacement:
            cls._original = torch.autograd.backward
            cls._replacement = _notifying(cls._original, cls._listeners)
            _replace(cls._replacement)
        cls._listeners[weakref.ref(listener, cls._drop)] = None

    @classmethod
    def remove(cls, listener: BackwardListener) -> None:
        """Stop notifying a listener."""
        cls._drop(weakref.ref(listener))

    @classmethod
    def _drop(cls, listener: "weakref.ref[BackwardListener]") -> None:
        if cls._listeners.pop(listener, listener) is None and not cls._listeners:
            if torch.autograd.backward is cls._replacement:
                _replace(cls._original)
            cls._replacement = None


_state = threading.local()


def _notifying(
    original: Callable[..., None], listeners: dict["weakref.ref[BackwardListener]", None]
) -> Callable[..., None]:
    """Return the function that calls `original` and notifies the listeners.

    A call inside a backward pass, as by reentrant checkpoints, is a part of that pass and notifies nobody.
    """

    @functools.wraps(original)
    def backward(*arguments: Any, **keywords: Any) -> None:
        if not listeners or getattr(_state, "is_running", False) or torch._C._current_graph_task_id() != -1:
            return original(*arguments, **keywords)
        called = [listener for reference in tuple(listeners) if (listener := reference()) is not None]
        for listener in called:
            listener.before_backward()
        _state.is_running = True
        try:
            original(*arguments, **keywords)
        finally:
            _state.is_running = False
        tensors = arguments[0] if arguments else keywords.get("tensors")
        grad_tensors = arguments[1] if len(arguments) > 1 else keywords.get("grad_tensors")
        for listener in called:
            listener.after_backward(tensors, grad_tensors)
        return None

    return backward


def _replace(function: Callable[..., None]) -> None:
    torch.autograd.backward = function
