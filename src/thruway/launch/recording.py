"""The watch of one module and one optimizer in a program that does not know of it."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from thruway.launch.options import WatchSettings
from thruway.watching.arguments import check_arguments, select_quantities
from thruway.watching.hooks.compiled import quiet, refuse_compiled
from thruway.watching.hooks.optimizer import Scaler
from thruway.watching.modules import unwrapped
from thruway.watching.quantities.table import DEFAULT
from thruway.watching.trace.trace import Trace
from thruway.watching.watcher import Watcher

__all__ = ["Recording", "open_recording"]


@dataclass(eq=False)
class Recording:
    """The trace of one optimizer's training steps, or of the calls of a module.

    The program keeps its models and optimizers alive, not the recording, which has only weak references.

    Attributes:
        title: classes of the module and of the optimizer, and the number of the optimizer: "Generator (Adam #1)".
        trace: the trace.
        is_foreign: True if the optimizer updates no parameter of the module that the program calls but, for example,
            those of a copy.
        updates: the id of every parameter that the optimizer updates.
    """

    title: str
    trace: Trace
    is_foreign: bool
    updates: frozenset[int]
    _watcher: weakref.ref[Watcher] = field(repr=False)
    _has_ended: bool = False

    def is_alive(self) -> bool:
        """Return True as long as the program has the model, and the recording continues."""
        return not self._has_ended and self._watcher() is not None

    def end(self, *, is_dropped: bool = False) -> None:
        """End the watch. The trace is complete afterwards."""
        watcher = self._watcher()
        if watcher is not None and not self._has_ended:
            # As if the block was left by an exception, a dropped recording does not warn that it is empty.
            watcher.__exit__(GeneratorExit if is_dropped else None, None, None)
        self._has_ended = True


def open_recording(
    module: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    optimizer_title: str,
    settings: WatchSettings,
    scaler: Scaler | None,
    *,
    first_recorded: int = 0,
    is_foreign: bool = False,
) -> Recording:
    """Begin to record the training of a module, from the first step of the optimizer or the first call on.

    Args:
        module: module to watch.
        optimizer: the optimizer whose steps are recorded; None to record the calls of the module.
        optimizer_title: class and number of the optimizer.
        settings: what to record.
        scaler: the loss scaler.
        first_recorded: number of the first step to record; 1 if step 0 has already begun.
        is_foreign: True if the optimizer updates no parameter of the module.
    Raises:
        ConfigError: if the module cannot be watched.
    """
    check_arguments(module, settings.every, None, None, scaler, 0, settings.memory)
    refuse_compiled(module, has_optimizer=optimizer is not None)
    watcher = Watcher(
        module,
        lambda step: step >= first_recorded and step % settings.every == 0,
        select_quantities(settings.quantities or DEFAULT),
        optimizer,
        None,
        scaler,
        None,
        0,
        settings.memory,
    )
    for hook in ("_model_called", "_model_returned", "_before_update", "_after_update"):
        setattr(watcher, hook, quiet(getattr(watcher, hook), watcher._fail))  # no error reaches the program
    trace = watcher.__enter__()
    reference = weakref.ref(watcher)
    for held in (watcher._eager, watcher._hook_free_state):  # what a watch that is not closed would leave in place
        weakref.finalize(watcher, held.end).atexit = False
    trace.flush = _weak(trace.flush)
    name = _class_name(module)
    trace.model = f"{name} ({optimizer_title})" if optimizer_title else name
    owned = [] if optimizer is None else [p for group in optimizer.param_groups for p in group["params"]]
    return Recording(trace.model, trace, is_foreign, frozenset(map(id, owned)), reference)


def _class_name(module: nn.Module) -> str:
    module = unwrapped(module)
    if type(module) is nn.ModuleDict:  # the modules of an optimizer that no other module contains
        return " + ".join(type(part).__name__ for part in module.values())
    return type(module).__name__


def _weak(method: Callable[[], None] | None) -> Callable[[], None] | None:
    """Return the method without a reference to its object; it does nothing when the object is gone."""
    if method is None:
        return None
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
