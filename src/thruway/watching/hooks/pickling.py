"""Pickling and copying of watched modules: hooks of a watch are left out.

A model that is saved whole while it is watched must load on a machine without Thruway, and with `weights_only=True`.
"""

import threading
from typing import Any

from torch import nn

from thruway.watching.hooks.capture import Hook

__all__ = ["HookFreeState"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Attributes that hold the ids of hooks that were registered with further options.
_OPTIONS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")


class HookFreeState:
    """Makes the state of modules, which pickle and copy read, free of watching hooks between `begin` and `end`.

    While at least one watch is open, `nn.Module.__reduce_ex__` is replaced, and not `__getstate__`, which some layers,
    such as nn.LSTM, define themselves. A class that defines `__reduce_ex__` keeps its own, and its copies contain hooks
    that do nothing.
    """

    _lock = threading.Lock()
    _open = 0

    def __init__(self) -> None:
        self._has_begun = False

    def begin(self) -> None:
        """Leave hooks out of the state of every module."""
        with HookFreeState._lock:
            if not self._has_begun:
                self._has_begun = True
                HookFreeState._open += 1
                if HookFreeState._open == 1:
                    nn.Module.__reduce_ex__ = _reduced_without_hooks  # type: ignore[assignment]

    def end(self) -> None:
        """Restore the class when the last watch is closed."""
        with HookFreeState._lock:
            if self._has_begun:
                self._has_begun = False
                HookFreeState._open -= 1
                if HookFreeState._open == 0 and vars(nn.Module).get("__reduce_ex__") is _reduced_without_hooks:
                    del nn.Module.__reduce_ex__


def _reduced_without_hooks(module: nn.Module, protocol: Any) -> Any:
    """Return what pickle and copy make of a module, without hooks of a watch."""
    reduced = super(nn.Module, module).__reduce_ex__(protocol)
    if not isinstance(reduced, tuple) or len(reduced) < 3:
        return reduced
    return (*reduced[:2], _without_hooks(reduced[2]), *reduced[3:])


def _without_hooks(state: Any) -> Any:
    """Return the state of a module without hooks of a watch."""
    attributes = state[0] if isinstance(state, tuple) else state  # a tuple if the class has __slots__
    if not isinstance(attributes, dict):
        return state
    ours = {key for name in _HOOKS for key, hook in attributes.get(name, {}).items() if isinstance(hook, Hook)}
    if not ours:
        return state
    kept = dict(attributes)
    for name in (*_HOOKS, *_OPTIONS):
        if name in kept:
            hooks = kept[name]
            kept[name] = type(hooks)((key, hook) for key, hook in hooks.items() if key not in ours)
    return (kept, *state[1:]) if isinstance(state, tuple) else kept
