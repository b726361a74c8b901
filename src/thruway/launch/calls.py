"""Calls of root modules, creation and steps of optimizers, and loss scalers, seen while the user's script runs."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from thruway.watching.hooks.capture import is_training_pass

__all__ = ["Creations", "OptimizerSteps", "RootCalls"]


class RootCalls:
    """Calls `on_root(module)` before every outermost call of a module with gradients enabled.

    `nn.Module.__call__` is replaced between `start` and `stop`. In contrast to a global forward pre-hook, hooks that
    `on_root` registers on the module run in this same call, and torch.compile does not warn of global hooks. The
    original is in place while a root runs, so that the modules inside it have no overhead.
    """

    def __init__(self, on_root: Callable[[nn.Module], None]) -> None:
        self._on_root = on_root
        self._original: Any = None
        self._replacement: Any = None
        self._is_wanted = False
        self._is_in_root = False

    def start(self) -> None:
        """Report root calls from now on."""
        self._is_wanted = True
        if not self._is_in_root:
            self._install()

    def stop(self) -> None:
        """Report no more root calls."""
        self._is_wanted = False
        self._uninstall()

    def _install(self) -> None:
        if self._replacement is not None:
            return
        original = nn.Module.__call__

        @functools.wraps(original)
        def call(module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
            # Somebody may have kept this function, so it also has to work after `stop`.
            if (
                not self._is_wanted
                or self._is_in_root
                or torch.compiler.is_compiling()
                or torch._C._get_tracing_state() is not None
                or not is_training_pass()
            ):
                return original(module, *arguments, **keywords)
            self._uninstall()
            self._is_in_root = True
            try:
                self._on_root(module)
                return original(module, *arguments, **keywords)
            finally:
                self._is_in_root = False
                if self._is_wanted:
                    self._install()

        self._original, self._replacement = original, call
        nn.Module.__call__ = call  # type: ignore[method-assign]

    def _uninstall(self) -> None:
        # Left in place if another library has wrapped it since; it then only passes calls on.
        if self._replacement is not None and nn.Module.__call__ is self._replacement:
            nn.Module.__call__ = self._original  # type: ignore[method-assign]
            self._original = self._replacement = None


class Creations:
    """Calls `on_new(instance)` after the initialisation of every instance of a class, until `stop`."""

    def __init__(self, kind: Any, on_new: Callable[[Any], None]) -> None:
        self._kind = kind
        original = self._original = kind.__init__

        @functools.wraps(original)
        def initialise(instance: Any, *arguments: Any, **keywords: Any) -> None:
            original(instance, *arguments, **keywords)
            on_new(instance)

        self._replacement = kind.__init__ = initialise

    def stop(self) -> None:
        """Restore the class."""
        if self._kind.__init__ is self._replacement:
            self._kind.__init__ = self._original


class OptimizerSteps:
    """Calls `on_step(optimizer, has_closure)` before every step of any optimizer, between `start` and `stop`.

    This is a global pre-hook, which runs before the optimizer's own: hooks that `on_step` registers on the optimizer
    run in the same step. PyTorch is iterating over the global pre-hooks meanwhile, so `stop` leaves this one in place
    if `on_step` calls it; the next `stop` removes it.
    """

    def __init__(self, on_step: Callable[[torch.optim.Optimizer, bool], None]) -> None:
        self._on_step = on_step
        self._handle: RemovableHandle | None = None
        self._is_wanted = False
        self._is_running = False

    def start(self) -> None:
        """Report steps from now on."""
        self._is_wanted = True
        if self._handle is None:
            self._handle = register_optimizer_step_pre_hook(self._before_step)

    def stop(self) -> None:
        """Report no more steps."""
        self._is_wanted = False
        if self._handle is not None and not self._is_running:
            self._handle.remove()
            self._handle = None

    def _before_step(
        self, optimizer: torch.optim.Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        if not self._is_wanted or torch.compiler.is_compiling():
            return
        closure = arguments[1] if len(arguments) > 1 else keywords.get("closure")
        self._is_running = True
        try:
            self._on_step(optimizer, closure is not None)
        finally:
            self._is_running = False
