"""Hearing what a model computes, for one sampled step: module outputs, functional activations and adds, gradients.

Forward hooks name what modules return. A TorchFunctionMode hears the functions that a module's own code
calls, which no module hook sees. Gradients are heard at the node of the autograd graph that made the
tensor: unlike a module's full backward hook, that is right when the tensor is overwritten afterwards
(ReLU(inplace=True), x += skip), and it costs one call.
"""

import dataclasses
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thruway.watching.hooks.call_table import Line, Script
from thruway.watching.hooks.capture import Filing
from thruway.watching.hooks.function_mode import FunctionsHeard, Heard
from thruway.watching.hooks.hook import Hook
from thruway.watching.hooks.lineage import Lineage
from thruway.watching.hooks.passes import is_training_pass
from thruway.watching.hooks.stack_hooks import StackEars
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.outputs import named_outputs
from thruway.watching.registry import Registry
from thruway.watching.sites import Site

__all__ = ["Listener", "named_outputs"]

_GATES = ("sigmoid", "hardsigmoid")


@dataclasses.dataclass(slots=True)
class _Frame:
    """A module whose forward is running, and how often it has called each operation."""

    name: str
    is_stack: bool = False  # heard through its taps
    calls: dict[str, int] = dataclasses.field(default_factory=dict)


class Listener:
    """Hooks on every module of a model, from `attach` to `detach`. Its callbacks run for every layer of every
    sampled step, so they are written for speed.

    Args:
        names: the path of every module to hear.
        registry: the sites met so far; new ones are entered.
        filing: takes what is heard.
        script: learns what every pass is like.
    """

    def __init__(self, names: Mapping[nn.Module, str], registry: Registry, filing: Filing, script: Script) -> None:
        self._names = names
        self._registry = registry
        self._filing = filing
        self._script = script
        self._stacks = StackEars(names, registry, filing, self._is_mine)
        self._handles: list[RemovableHandle] = []
        self._frames: list[_Frame] = []
        self._module_calls: dict[str, int] = {}
        self._seen: dict[int, tuple[weakref.ref[Tensor], Site]] = {}
        self._last: Site | None = None
        self._operand_sites: tuple[Site | None, Site | None] = (None, None)
        self._mode: FunctionsHeard | None = None
        self.heard: Heard | None = None

    # From attach to detach

    def attach(self, called: nn.Module | None = None) -> None:
        """Put a hook on every module, unless they are there already.

        Args:
            called: the module whose call is beginning now: torch has gathered its hooks, so a new one is too late.
        """
        if self._handles:
            return
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule) or module in self._stacks.inner:
                continue
            if _is_simple(module):
                self._handles.append(module.register_forward_hook(Hook(self._leave_simple)))
            else:
                self._handles.append(module.register_forward_pre_hook(Hook(self._enter)))
                self._handles.append(module.register_forward_hook(Hook(self._leave), always_call=True))
        self._handles += [module.register_forward_hook(Hook(hook)) for module, hook in self._stacks.hooks()]
        if called is not None and called in self._names and not _is_simple(called):
            self._enter(called, ())

    def detach(self) -> None:
        """Take every hook away from the modules."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget_pass()  # it was broken off if it is still there, in a way that hooks are not told of
        self._frames.clear()

    def is_inside(self) -> bool:
        """A forward pass is running."""
        return bool(self._frames)

    def _is_mine(self) -> bool:
        """A pass is heard, and it runs in this thread."""
        return bool(self._frames) and self._filing.is_mine()

    # Modules. While the mode is on, even reading a tensor's attribute is a call it hears: hence the guards.

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        if not self._frames:
            if not self._begins():
                return
            self._script.entered[module] = None
        elif not self._is_mine():
            return
        if self.heard is not None:
            with torch._C.DisableTorchFunction():
                self.file_heard()
        self._frames.append(_Frame(self._call_name(module), module in self._stacks.stacks))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._is_mine():
            return
        name = self._frames[-1].name
        if output is not None:
            with torch._C.DisableTorchFunction():
                if self._frames[-1].is_stack and self._mode is not None:
                    self._mode.note((inputs, [*module.parameters()]), output)
                self._file_outputs(name, module, output, is_simple=False)
        self._frames.pop()
        if not self._frames:
            self._end_pass()

    def _leave_simple(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._frames:
            if self._is_mine():
                with torch._C.DisableTorchFunction():
                    self._file_outputs(self._call_name(module), module, output, is_simple=True)
        elif self._begins():  # called by the training loop itself
            self._script.entered[module] = None
            with torch._C.DisableTorchFunction():
                self._file_outputs(self._call_name(module), module, output, is_simple=True)
            self._end_pass()

    def _call_name(self, module: nn.Module) -> str:
        path = self._names[module]
        calls = self._module_calls.get(path, 0) + 1
        self._module_calls[path] = calls
        return path if calls == 1 else f"{path}#{calls}"

    def _begins(self) -> bool:
        """Begin a pass, if this is one: evaluation and the recomputation of checkpointed blocks are not."""
        if self._filing.is_deaf or not self._handles or not is_training_pass() or not self._filing.is_mine():
            return False
        self._last = None
        self._mode = FunctionsHeard(self, None if self._registry.is_learnt else Lineage())
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return True

    def _end_pass(self) -> None:
        self._leave_mode()
        self.file_heard()
        self._registry.is_learnt = True
        self._forget_pass()
        self._script.end_lesson()
        self._filing.end_pass()

    def _forget_pass(self) -> None:
        self._leave_mode()
        self.heard = None
        self._module_calls.clear()
        self._seen.clear()

    def _leave_mode(self) -> None:
        if self._mode is not None:
            if self._filing.is_mine():  # modes are each thread's own
                self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None

    # Functions: what FunctionsHeard calls

    def before_write(self, tensor: Tensor) -> None:
        try:
            for written in (tensor, tensor._base):  # a write into a view is one into the whole
                if written is not None:
                    self._filing.collector.about_to_write(written)
        except Exception as error:
            self._filing.fail(error)

    def before_add(self, a: Tensor, b: Tensor) -> None:
        self._operand_sites = self._site_of(a), self._site_of(b)

    def blends(self, gate: Tensor, other: Tensor) -> None:
        self.file_heard()
        site = self._site_of(gate)
        if site is not None and site.activation in _GATES and gate.shape == other.shape:
            site.is_gate = True

    def _site_of(self, tensor: Tensor) -> Site | None:
        known = self._seen.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    # Filing what was heard under a name

    def file_heard(self) -> None:
        """No module claimed it: it goes by the running module's name and the operation's."""
        heard = self.heard
        if heard is None:
            return
        self.heard = None
        frame = self._frames[-1] if self._frames else _Frame("")
        if frame.is_stack:  # it runs in calls that are heard if somebody has a hook inside
            return
        calls = frame.calls.get(heard.operation, 0) + 1
        frame.calls[heard.operation] = calls
        name = f"{frame.name}.{heard.operation}" if frame.name else heard.operation
        self._file(name if calls == 1 else f"{name}_{calls}", heard)

    def _file_outputs(self, name: str, module: nn.Module, output: Any, *, is_simple: bool) -> None:
        for suffix, tensor in (("", output),) if isinstance(output, Tensor) else named_outputs(output):
            heard = self.heard
            if heard is not None and heard.tensor is tensor and name:
                self.heard = None
                if not is_simple:
                    self._script.claimed[module] = None
                self._file(name + suffix, heard._replace(module=type(module).__name__) if is_simple else heard)
                continue
            self.file_heard()
            if self._site_of(tensor) is None and not self._is_reshaped(tensor):
                activation = ACTIVATION_MODULES.get(type(module))
                self._script.hooked[module] = None
                self._script.hooked_names.add((name or "output") + suffix)
                kind = type(module).__name__
                self._file((name or "output") + suffix, Heard(tensor, kind, activation, is_function=False))

    def _is_reshaped(self, tensor: Tensor) -> bool:
        """The same numbers as a tensor that was filed already, in another shape."""
        base = tensor._base
        return base is not None and base.numel() == tensor.numel() and self._site_of(base) is not None

    def _file(self, name: str, heard: Heard) -> None:
        if self._filing.is_deaf:
            return
        try:
            tensor = heard.tensor
            key = self._script.key(self._last, heard.operation, heard.weight) if heard.is_function else None
            known = self._registry.known_outputs.get(name)
            if known is None:
                if not _is_measurable(tensor):
                    if key is not None:
                        self._script.learn(key, None)
                    return
                operation = heard.module or heard.operation
                known = self._registry.output(name, operation, heard.activation, tensor)
            site, gradient = known
            operands = self._file_branch(name, heard) if heard.operands is not None else ()
            self._seen[id(tensor)] = weakref.ref(tensor), site
            self._filing.file(site, gradient, tensor)
            self._last = site
            if key is not None:
                self._script.learn(key, Line(site, gradient, operands))
        except Exception as error:
            self._filing.fail(error)

    def _file_branch(self, name: str, heard: Heard) -> tuple[tuple[int, Site, Site], ...]:
        """Both operands of a residual add become sites, so that |f(x)| / |x| can be told; returns the new ones."""
        branch = self._registry.branch_operand.setdefault(name, heard.branch)
        if branch is None or heard.operands is None:
            return ()
        sites = list(self._operand_sites)
        found: list[tuple[int, Site, Site]] = []
        for index, operand in enumerate(heard.operands):
            if sites[index] is None and operand is not heard.tensor:
                role = "branch" if index == branch else "shortcut"
                self._file(f"{name}.{role}", Heard(operand, role, is_function=False))
                sites[index] = self._site_of(operand)
                known = self._registry.known_outputs.get(f"{name}.{role}")
                if known is not None:
                    found.append((index, *known))
        ours, theirs = sites[branch], sites[1 - branch]
        if ours is not None and theirs is not None:
            self._registry.branches[name] = ours.name, theirs.name
        return tuple(found)


def _is_simple(module: nn.Module) -> bool:
    """One of torch's own layers: what it computes inside is its output, and nothing else is of interest."""
    return type(module).__module__.startswith("torch.nn.modules.") and not module._modules


def _is_measurable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_meta and tensor.numel() > 0
