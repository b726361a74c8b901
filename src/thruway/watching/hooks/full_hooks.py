"""Full capture of one sampled step: module outputs, activation functions and adds, and gradients.

Forward hooks capture the outputs of modules under the names of the modules. A TorchFunctionMode captures the functions
called in a module's own code, which module hooks do not see. Gradients are captured at the autograd node that made the
tensor: unlike the full backward hook of a module, this stays correct if the tensor is overwritten afterwards
(ReLU(inplace=True), x += skip), and it takes a single call.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thruway.watching.hooks.blends import mark_gate_of_blend, mark_gate_roles
from thruway.watching.hooks.call_names import CallNames
from thruway.watching.hooks.call_table import CallSites, CallTable
from thruway.watching.hooks.capture import Capture, Hook, is_measurable
from thruway.watching.hooks.checkpoints import ReentrantCheckpoints
from thruway.watching.hooks.function_mode import FunctionMode, Result
from thruway.watching.hooks.hand_written import unmark_inner_activations
from thruway.watching.hooks.inputs import NOTHING, capture_inputs
from thruway.watching.hooks.lineage import Lineage
from thruway.watching.hooks.stack_hooks import StackHooks
from thruway.watching.hooks.tensor_sites import TensorSites
from thruway.watching.modules import is_torch_layer, named_outputs
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.sites import Registry, Site

__all__ = ["FullHooks"]

_GATES = ("sigmoid", "hardsigmoid")


@dataclasses.dataclass(slots=True)
class _Frame:
    """A module whose forward is running."""

    name: str  # its path, and the number of the call
    path: str
    is_stack: bool = False  # captured by StackHooks


class FullHooks:
    """Hooks on every module of a model, registered by `attach` and removed by `detach`.

    The callbacks run for every layer of every sampled step, so they are written for speed.

    Args:
        names: path of every module to capture.
        registry: sites captured so far, to which new ones are added.
        capture: object that receives the tensors.
        table: table in which the calls of each pass are recorded.
    """

    def __init__(self, names: Mapping[nn.Module, str], registry: Registry, capture: Capture, table: CallTable) -> None:
        self._names = names
        self._registry = registry
        self._capture = capture
        self._table = table
        self._stacks = StackHooks(names, registry, capture, self._is_capturing)
        self._handles: list[RemovableHandle] = []
        self._frames: list[_Frame] = []
        self._call_names = CallNames(names.values())
        self._checkpoints = ReentrantCheckpoints()
        self._sites = TensorSites()
        self._last: Site | None = None
        self._operand_sites: tuple[Site | None, Site | None] = (None, None)
        self._mode: FunctionMode | None = None
        self.pending: Result | None = None

    # From attach to detach

    def attach(
        self, called: nn.Module | None = None, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] = NOTHING
    ) -> None:
        """Register the hooks, unless they are registered already. The arguments are those of ModelHooks.attach."""
        if self._handles:
            return
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule) or module in self._stacks.inner:
                continue
            if is_torch_layer(module):
                self._handles.append(module.register_forward_hook(Hook(self._leave_torch_layer)))
            else:
                self._handles.append(module.register_forward_pre_hook(Hook(self._enter), with_kwargs=True))
                self._handles.append(module.register_forward_hook(Hook(self._leave), always_call=True))
        self._handles += [module.register_forward_hook(Hook(hook)) for module, hook in self._stacks.hooks()]
        if called is not None and called in self._names and not is_torch_layer(called):
            self._enter(called, arguments, keywords)

    def detach(self) -> None:
        """Remove every hook from the modules."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._clear_pass()  # a pass that is still open was broken off without its last hook
        self._frames.clear()

    def is_in_forward(self) -> bool:
        """Return True during a captured forward pass."""
        return bool(self._frames)

    def _is_capturing(self) -> bool:
        """Return True if a pass is being captured in this thread."""
        return bool(self._frames) and self._capture.is_watched_thread()

    # Module hooks. While the mode is on it also captures the reading of a tensor's attributes: hence the guards.

    def _enter(self, module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any] = NOTHING) -> None:
        # A hook that is removed while PyTorch iterates over the hooks is called without the keyword arguments.
        if not self._frames:
            if not self._begin_pass(self._names[module]):
                return
            self._table.entry_modules[module] = None
            capture_inputs(self._capture, self._registry, self._names[module], arguments, keywords)
        elif not self._is_capturing():
            return
        if self.pending is not None:
            with torch._C.DisableTorchFunction():
                self.capture_pending()
        self._frames.append(
            _Frame(self._call_names.of_module(self._names[module]), self._names[module], module in self._stacks.stacks)
        )

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._is_capturing():
            return
        name = self._frames[-1].name
        if output is not None:
            with torch._C.DisableTorchFunction():
                if self._frames[-1].is_stack and self._mode is not None:
                    self._mode.record((inputs, [*module.parameters()]), output)
                self._capture_outputs(name, module, output, is_torch_layer=False)
        self._frames.pop()
        if not self._frames:
            self._end_pass(self._names[module])

    def _leave_torch_layer(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        path = self._names[module]
        is_entry = not self._frames  # the training loop calls this layer itself
        if not (self._begin_pass(path) if is_entry else self._is_capturing()):
            return
        if is_entry:
            self._table.entry_modules[module] = None
            if not getattr(module, "inplace", False):  # otherwise the input has been overwritten by now
                capture_inputs(self._capture, self._registry, path, inputs, NOTHING)
        with torch._C.DisableTorchFunction():
            self._capture_outputs(self._call_names.of_module(path), module, output, is_torch_layer=True)
        if is_entry:
            self._end_pass(path)

    def _begin_pass(self, path: str) -> bool:
        """Begin a pass and return True, except in evaluation or in the recomputation of a checkpointed block."""
        if not self._handles or not self._capture.can_begin_pass():
            return False
        self._last = None
        self._mode = FunctionMode(self, None if path in self._registry.with_lineage else Lineage())
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return True

    def _end_pass(self, path: str) -> None:
        lineage = self._mode.lineage if self._mode is not None else None
        self._leave_mode()
        self.capture_pending()
        if lineage is not None:
            try:
                unmark_inner_activations(lineage, self._capture.collector)
                mark_gate_roles(lineage)
            except Exception as error:
                self._capture.fail(error)
        self._registry.with_lineage.add(path)
        self._clear_pass()
        self._table.end_full_pass()
        self._capture.end_pass()

    def _clear_pass(self) -> None:
        self._leave_mode()
        self.pending = None
        self._call_names.clear()
        self._sites.clear()

    def _leave_mode(self) -> None:
        if self._mode is not None:
            if self._capture.is_watched_thread():  # each thread has its own stack of modes
                self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None

    # Functions: called by FunctionMode

    def layer_of(self, tensor: Any) -> str | None:
        return self._call_names.layer_of(tensor, self._frames[-1].path) if self._frames else None

    def before_write(self, tensor: Tensor) -> None:
        try:
            for written in (tensor, tensor._base):  # a write into a view is a write into its base
                if written is not None:
                    self._call_names.remove_output(written)
                    self._capture.collector.about_to_write(written)
        except Exception as error:
            self._capture.fail(error)

    def before_add(self, a: Tensor, b: Tensor) -> None:
        self._operand_sites = self._sites.of(a), self._sites.of(b)

    def note_gate(self, gate: Tensor, other: Tensor, start: Tensor | None = None) -> None:
        self.capture_pending()
        site = self._sites.of(gate)
        if site is not None and site.activation in _GATES and gate.shape == other.shape:
            site.is_gate = True
            if start is not None and self._mode is not None:
                mark_gate_of_blend(self._mode.lineage, site, other, start)

    def note_no_gradients(self) -> None:
        self._checkpoints.check(self._frames[-1].path if self._frames else "")

    # Naming of results

    def capture_pending(self) -> None:
        """Capture the pending result, which no module returned, under the running module's name and the operation.

        An activation of a layer's output has that layer's name instead of the running module's.
        """
        result = self.pending
        if result is None:
            return
        self.pending = None
        frame = self._frames[-1] if self._frames else _Frame("", "")
        if frame.is_stack:  # its layers are captured by StackHooks, even where a user hook makes them run as calls
            return
        self._capture_result(self._call_names.of_function(result.layer or frame.name, result.operation), result)

    def _capture_outputs(self, name: str, module: nn.Module, output: Any, *, is_torch_layer: bool) -> None:
        for suffix, tensor in (("", output),) if isinstance(output, Tensor) else named_outputs(output):
            self._call_names.add_output(tensor, name + suffix, self._names[module])
            result = self.pending
            if result is not None and result.tensor is tensor and name:
                self.pending = None
                if not is_torch_layer:
                    self._table.checked_modules[module] = None
                named = result._replace(module=type(module).__name__) if is_torch_layer else result
                self._capture_result(name + suffix, named)
                continue
            self.capture_pending()
            if not self._sites.has_all_of(tensor):
                activation = ACTIVATION_MODULES.get(type(module))
                self._table.output_modules[module] = None
                self._table.output_names.add((name or "output") + suffix)
                kind = type(module).__name__
                result = Result(tensor, kind, activation, is_function=False)
                self._capture_result((name or "output") + suffix, result)

    def _capture_result(self, name: str, result: Result) -> None:
        if self._capture.is_paused:
            return
        try:
            tensor = result.tensor
            key = self._table.key(self._last, result.operation, result.weight) if result.is_function else None
            known = self._registry.known_outputs.get(name)
            if known is None:
                if not is_measurable(tensor):
                    if key is not None:
                        self._table.record(key, None)
                    return
                operation = result.module or result.operation
                known = self._registry.output(name, operation, result.activation, tensor)
            site, gradient = known
            operands = self._capture_operands(name, result) if result.operands is not None else ()
            self._sites.add(tensor, site)
            self._capture.add_output(site, gradient, tensor)
            self._last = site
            if site.activation is not None and self._mode is not None and self._mode.lineage is not None:
                self._mode.lineage.add_activation(tensor, site)
            if key is not None:
                self._table.record(key, CallSites(site, gradient, operands))
        except Exception as error:
            self._capture.fail(error)

    def _capture_operands(self, name: str, result: Result) -> tuple[tuple[int, Site, Site], ...]:
        """Capture both operands of a residual add, for |f(x)| / |x|, and return those that had no site yet."""
        branch = self._registry.branch_operand.setdefault(name, result.branch)
        if branch is None or result.operands is None:
            return ()
        sites = list(self._operand_sites)
        found: list[tuple[int, Site, Site]] = []
        for index, operand in enumerate(result.operands):
            if sites[index] is None and operand is not result.tensor:
                role = "branch" if index == branch else "shortcut"
                self._capture_result(f"{name}.{role}", Result(operand, role, is_function=False))
                sites[index] = self._sites.of(operand)
                known = self._registry.known_outputs.get(f"{name}.{role}")
                if known is not None:
                    found.append((index, *known))
        ours, theirs = sites[branch], sites[1 - branch]
        if ours is not None and theirs is not None:
            self._registry.branches[name] = ours.name, theirs.name
        return tuple(found)
