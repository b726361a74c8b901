"""Capture of a pass whose calls are in the CallTable, without hooks on layers.

This does the same as FullHooks and FunctionMode, for a known sequence of calls. This code runs for every layer of every
sampled step, so it is written for speed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from thruway.watching.hooks.call_table import CallSites, CallTable
from thruway.watching.hooks.capture import Capture, Hook
from thruway.watching.hooks.function_mode import ACTIONS, Action, action_of, operands_of, weight_of, written_by
from thruway.watching.hooks.inputs import NOTHING, capture_inputs
from thruway.watching.hooks.stack_hooks import StackHooks
from thruway.watching.modules import named_outputs
from thruway.watching.sites import Registry, Site

__all__ = ["ReplayedHooks"]


class ReplayedHooks:
    """Hooks on the modules that begin a pass, and on those whose outputs are not returned by any captured call.

    The arguments are those of FullHooks.
    """

    def __init__(self, names: Mapping[nn.Module, str], registry: Registry, capture: Capture, table: CallTable) -> None:
        self._names = names
        self._registry = registry
        self._capture = capture
        self._table = table
        self._stacks = StackHooks(names, registry, capture, self._is_capturing)
        self._handles: list[RemovableHandle] = []
        self._module_calls: dict[str, int] = {}
        self._depth = 0
        self._mode: _ReplayMode | None = None

    def attach(
        self, called: nn.Module | None = None, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] = NOTHING
    ) -> None:
        """Register the hooks, unless they are registered already."""
        if self._handles:
            return
        for module in self._table.entry_modules:
            self._handles.append(module.register_forward_pre_hook(Hook(self._enter), with_kwargs=True))
        for module in self._table.output_modules:
            self._handles.append(module.register_forward_hook(Hook(self._capture_output)))
        for module in self._table.checked_modules:
            self._handles.append(module.register_forward_hook(Hook(self._check_output)))
        self._handles += [module.register_forward_hook(Hook(hook)) for module, hook in self._stacks.hooks()]
        for module in self._table.entry_modules:
            self._handles.append(module.register_forward_hook(Hook(self._leave), always_call=True))
        if called is not None and called in self._table.entry_modules:
            self._enter(called, arguments, keywords)

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._clear_pass()  # a pass that is still open was broken off without its last hook
        self._depth = 0

    def is_in_forward(self) -> bool:
        """Return True during a captured forward pass."""
        return self._depth > 0

    def _is_capturing(self) -> bool:
        """Return True if a pass is being captured in this thread."""
        return self._depth > 0 and self._capture.is_watched_thread()

    def _enter(self, module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any] = NOTHING) -> None:
        if self._depth == 0:
            if not self._handles or not self._capture.can_begin_pass():
                return
            capture_inputs(self._capture, self._registry, self._names[module], arguments, keywords)
            self._mode = _ReplayMode(self._table, self._capture)
            self._mode.__enter__()  # type: ignore[no-untyped-call]
        elif not self._is_capturing():
            return
        self._depth += 1

    def _leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if not self._is_capturing():
            return
        self._depth -= 1
        if self._depth == 0 and self._mode is not None:
            self._clear_pass()
            self._capture.end_pass()

    def _clear_pass(self) -> None:
        if self._mode is not None:
            if self._capture.is_watched_thread():  # each thread has its own stack of modes
                self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None
        self._module_calls.clear()

    def _capture_output(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._capture.is_paused or self._mode is None or not self._is_capturing():
            return
        with torch._C.DisableTorchFunction():
            try:
                path = self._names[module]
                calls = self._module_calls[path] = self._module_calls.get(path, 0) + 1
                name = (path or "output") if calls == 1 else f"{path}#{calls}"
                for suffix, tensor in named_outputs(output):
                    known = self._registry.known_outputs.get(name + suffix)  # None for integer tensors such as masks
                    if known is not None and name + suffix in self._table.output_names:
                        site, gradient = known
                        self._capture.add_output(site, gradient, tensor)
                        self._mode.last = site
            except Exception as error:
                self._capture.fail(error)

    def _check_output(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """Check that the module again returns the result captured under its name."""
        mode = self._mode
        if mode is None or self._capture.is_paused or not self._is_capturing() or output is mode.result:
            return
        if not any(tensor is mode.result for _, tensor in named_outputs(output)):
            self._capture.collector.discard(self._registry.known_outputs.get(self._names[module], ()))
            self._table.disable()


class _ReplayMode(TorchFunctionMode):
    """Captures the result of every function call that is in the table."""

    def __init__(self, table: CallTable, capture: Capture) -> None:
        super().__init__()
        self._table = table
        self._capture = capture
        self.last: Site | None = None
        self.result: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        action = ACTIONS.get(func) or action_of(func)
        if action.is_idle:
            if not kwargs:
                return func(*args)
            if "out" not in kwargs:
                return func(*args, **kwargs)
        kwargs = kwargs or {}
        if self._capture.is_paused or not torch.is_grad_enabled():  # evaluation, or the inside of an autograd.Function
            return func(*args, **kwargs)
        if action.always_writes or action.inplace_at is not None or "out" in kwargs:
            self._before_write(written_by(action, args, kwargs))
        result = func(*args, **kwargs)
        if action.operation is not None and isinstance(result, Tensor):
            self._capture_result(action, args, kwargs, result)
        return result

    def _capture_result(self, action: Action, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        try:
            if action.is_add and operands_of(args, kwargs) is None:
                return
            self.result = result
            weight = None if action.weight_at is None else weight_of(action, args, kwargs)
            sites: CallSites | None = self._table.find(CallTable.key(self.last, action.operation, weight))
            if sites is None:
                return
            for index, site, gradient in sites.operands:
                self._capture.add_output(site, gradient, args[index])
            self._capture.add_output(sites.site, sites.gradient, result)
            self.last = sites.site
        except Exception as error:
            self._capture.fail(error)

    def _before_write(self, written: Tensor | None) -> None:
        """Handle a function that is about to overwrite a tensor."""
        if written is None:
            return
        try:
            self._capture.collector.about_to_write(written)
            if written._base is not None:  # a write into a view is a write into its base
                self._capture.collector.about_to_write(written._base)
        except Exception as error:
            self._capture.fail(error)
