"""Hearing a pass that goes by the script: no hooks on layers, no names to make up.

What FunctionsHeard and the hooks of Listener do for any pass, for one that is known. Every line here runs
for every layer of every sampled step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from thruway.watching.hooks.call_table import Line, Script
from thruway.watching.hooks.capture import Filing
from thruway.watching.hooks.function_mode import ACTIONS, Action, action_of, operands_of, weight_of, written_by
from thruway.watching.hooks.hook import Hook
from thruway.watching.hooks.passes import is_training_pass
from thruway.watching.hooks.stack_hooks import StackEars
from thruway.watching.outputs import named_outputs
from thruway.watching.registry import Registry
from thruway.watching.sites import Site

__all__ = ["LeanListener"]


class LeanListener:
    """As Listener, with hooks only where a pass begins and on modules whose outputs no function announces."""

    def __init__(self, names: Mapping[nn.Module, str], registry: Registry, filing: Filing, script: Script) -> None:
        self._names = names
        self._registry = registry
        self._filing = filing
        self._script = script
        self._stacks = StackEars(names, registry, filing, self._is_mine)
        self._handles: list[RemovableHandle] = []
        self._module_calls: dict[str, int] = {}
        self._depth = 0
        self._mode: _Following | None = None

    def attach(self, called: nn.Module | None = None) -> None:
        """Put the hooks on, unless they are there already."""
        if self._handles:
            return
        for module in self._script.entered:
            self._handles.append(module.register_forward_pre_hook(Hook(self._enter)))
        for module in self._script.hooked:
            self._handles.append(module.register_forward_hook(Hook(self._hear_output)))
        for module in self._script.claimed:
            self._handles.append(module.register_forward_hook(Hook(self._check_output)))
        self._handles += [module.register_forward_hook(Hook(hook)) for module, hook in self._stacks.hooks()]
        for module in self._script.entered:
            self._handles.append(module.register_forward_hook(Hook(self._leave), always_call=True))
        if called in self._script.entered:
            self._enter(called, ())

    def detach(self) -> None:
        """Take every hook away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget_pass()  # it was broken off if it is still there, in a way that hooks are not told of
        self._depth = 0

    def is_inside(self) -> bool:
        """A forward pass is running."""
        return self._depth > 0

    def _is_mine(self) -> bool:
        """A pass is heard, and it runs in this thread."""
        return self._depth > 0 and self._filing.is_mine()

    def _enter(self, module: nn.Module | None, _inputs: Any) -> None:
        if self._depth == 0:
            if self._filing.is_deaf or not self._handles or not is_training_pass() or not self._filing.is_mine():
                return
            self._mode = _Following(self._script, self._filing)
            self._mode.__enter__()  # type: ignore[no-untyped-call]
        elif not self._is_mine():
            return
        self._depth += 1

    def _leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if not self._is_mine():
            return
        self._depth -= 1
        if self._depth == 0 and self._mode is not None:
            self._forget_pass()
            self._filing.end_pass()

    def _forget_pass(self) -> None:
        if self._mode is not None:
            if self._filing.is_mine():  # modes are each thread's own
                self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None
        self._module_calls.clear()

    def _hear_output(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._filing.is_deaf or self._mode is None or not self._is_mine():
            return
        with torch._C.DisableTorchFunction():
            try:
                path = self._names[module]
                calls = self._module_calls[path] = self._module_calls.get(path, 0) + 1
                name = (path or "output") if calls == 1 else f"{path}#{calls}"
                for suffix, tensor in named_outputs(output):
                    known = self._registry.known_outputs.get(name + suffix)  # none for a mask, or a count
                    if known is not None and name + suffix in self._script.hooked_names:
                        site, gradient = known
                        self._filing.file(site, gradient, tensor)
                        self._mode.last = site
            except Exception as error:
                self._filing.fail(error)

    def _check_output(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        """What went by the name of this module's output must be what it returns, in this pass too."""
        mode = self._mode
        if mode is None or self._filing.is_deaf or not self._is_mine() or output is mode.result:
            return
        if not any(tensor is mode.result for _, tensor in named_outputs(output)):
            self._filing.collector.doubt(self._registry.known_outputs.get(self._names[module], ()))
            self._script.give_up()


class _Following(TorchFunctionMode):
    """Files the result of every function in the script."""

    def __init__(self, script: Script, filing: Filing) -> None:
        super().__init__()
        self._script = script
        self._filing = filing
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
        if self._filing.is_deaf or not torch.is_grad_enabled():  # evaluation, or the inside of an autograd.Function
            return func(*args, **kwargs)
        if action.always_writes or action.inplace_at is not None or "out" in kwargs:
            self._save(written_by(action, args, kwargs))
        result = func(*args, **kwargs)
        if action.operation is not None and isinstance(result, Tensor):
            self._file(action, args, kwargs, result)
        return result

    def _file(self, action: Action, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        try:
            if action.is_add and operands_of(args, kwargs) is None:
                return
            self.result = result
            weight = None if action.weight_at is None else weight_of(action, args, kwargs)
            line: Line | None = self._script.find(Script.key(self.last, action.operation, weight))
            if line is None:
                return
            for index, site, gradient in line.operands:
                self._filing.file(site, gradient, args[index])
            self._filing.file(line.site, line.gradient, result)
            self.last = line.site
        except Exception as error:
            self._filing.fail(error)

    def _save(self, written: Tensor | None) -> None:
        """Someone is about to overwrite this tensor."""
        if written is None:
            return
        try:
            self._filing.collector.about_to_write(written)
            if written._base is not None:  # a write into a view is one into the whole
                self._filing.collector.about_to_write(written._base)
        except Exception as error:
            self._filing.fail(error)
