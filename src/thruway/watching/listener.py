"""Hearing what a model computes, for one sampled step: module outputs, functional activations and adds, gradients.

Forward hooks name what modules return. A TorchFunctionMode hears the functions that a module's own code
calls, which no module hook sees. Gradients are heard at the node of the autograd graph that made the
tensor: unlike a module's full backward hook, that is right when the tensor is overwritten afterwards
(ReLU(inplace=True), x += skip), and it costs one call.
"""

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thruway.nn.stack import GradientsTap, HighwayStack, LayerStates, StatesTap
from thruway.watching.collector import Collector
from thruway.watching.functions import FunctionsHeard, Heard
from thruway.watching.lineage import Lineage
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.registry import Registry
from thruway.watching.sites import Site

__all__ = ["Listener", "is_in_backward"]

_GATES = ("sigmoid", "hardsigmoid")


@dataclasses.dataclass(slots=True)
class _Frame:
    """A module whose forward is running, and how often it has called each operation."""

    name: str
    calls: dict[str, int] = dataclasses.field(default_factory=dict)


class Listener:
    """Hooks on every module of a model, from `attach` to `detach`.

    Args:
        names: the path of every module to hear.
        registry: the sites met so far; new ones are entered.
        collector: who measures what is heard.
        guard: wraps every callback, so that a mistake of ours never reaches the user's training.
        unscale: takes a loss scaler's factor out of a gradient; None where there is none.
        taps_gradients: hear gradients too.
    """

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        registry: Registry,
        collector: Collector,
        guard: Callable[[Callable[..., None]], Callable[..., None]],
        unscale: Callable[[Tensor], Tensor] | None = None,
        *,
        taps_gradients: bool = True,
    ) -> None:
        self._taps_gradients = taps_gradients
        self._names = names
        self._registry = registry
        self._collector = collector
        self._unscale = unscale
        self._stack_activations = {
            path: module.activation for module, path in names.items() if isinstance(module, HighwayStack)
        }
        self._handles: list[RemovableHandle] = []
        self._taps: list[RemovableHandle] = []
        self._frames: list[_Frame] = []
        self._module_calls: dict[str, int] = {}
        self._seen: dict[int, tuple[weakref.ref[Tensor], Site]] = {}
        self._heard: Heard | None = None
        self._operand_sites: tuple[Site | None, Site | None] = (None, None)
        self._mode: FunctionsHeard | None = None
        self._guard = guard
        self._file_outputs_guarded = guard(self._file_outputs)
        self._file_heard_guarded = guard(self._file_heard)
        self._hear_gradient_guarded = guard(self._hear_gradient)
        # What FunctionsHeard calls.
        self.before = guard(self._before)
        self.add_operands = guard(self._add_operands)
        self.after = guard(self._after)
        self.blends = guard(self._blends)
        self.passes = 0

    # From attach to detach

    def attach(self) -> None:
        """Put a hook on every module."""
        for module in self._names:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if isinstance(module, StatesTap):
                self._handles.append(module.register_forward_hook(self._guard(self._hear_states)))
            elif isinstance(module, GradientsTap):
                self._handles.append(module.register_forward_hook(self._guard(self._hear_stack_gradients)))
            elif _is_simple(module):
                self._handles.append(module.register_forward_hook(self._leave_simple))
            else:
                self._handles.append(module.register_forward_pre_hook(self._enter))
                self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def detach(self) -> None:
        """Take every hook away, from modules and from autograd graphs."""
        for handle in (*self._handles, *self._taps):
            handle.remove()
        self._handles.clear()
        self._taps.clear()

    def is_inside(self) -> bool:
        """A forward pass is running."""
        return bool(self._frames)

    # Modules

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        if not self._frames and not self._begins():
            return
        self._file_heard_guarded()
        self._frames.append(_Frame(self._call_name(module)))

    def _leave(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if not self._frames:
            return
        name = self._frames[-1].name
        if output is not None:
            self._file_outputs_guarded(name, module, output)
        self._frames.pop()
        if not self._frames:
            self._end_pass()

    def _leave_simple(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        if self._frames:
            self._file_outputs_guarded(self._call_name(module), module, output)
        elif self._begins():  # called by the training loop itself
            self._file_outputs_guarded(self._call_name(module), module, output)
            self._end_pass()

    def _call_name(self, module: nn.Module) -> str:
        path = self._names[module]
        calls = self._module_calls[path] = self._module_calls.get(path, 0) + 1
        return path if calls == 1 else f"{path}#{calls}"

    def _begins(self) -> bool:
        """Begin a pass, if this is one: evaluation and the recomputation of checkpointed blocks are not."""
        if not torch.is_grad_enabled() or is_in_backward():
            return False
        self.passes += 1
        self._mode = FunctionsHeard(self, None if self._registry.is_learnt else Lineage())
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return True

    def _end_pass(self) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None
        self._file_heard_guarded()
        self._registry.is_learnt = True
        self._module_calls.clear()
        self._seen.clear()
        self._guard(self._collector.flush)()

    # A HighwayStack's layers, which lie in one tensor

    def _hear_states(self, module: nn.Module, _inputs: Any, states: LayerStates) -> None:
        if not self._frames:
            return
        path = _parent(self._names[module])
        layers = self._registry.stack_layers(path, len(states.x), self._stack_activations.get(path))
        for sites, values in zip(layers.outputs, (states.h, states.t, states.x[1:]), strict=True):
            if len(values):
                self._collector.add_block(sites, values)

    def _hear_stack_gradients(self, module: nn.Module, _inputs: Any, gradients: Tensor) -> None:
        layers = self._registry.stacks.get(_parent(self._names[module]))
        if layers is not None and len(gradients) > 1:
            below = gradients[:-1]  # the last layer's output is the stack's own, heard like any other
            self._collector.add_block(layers.gradients, below if self._unscale is None else self._unscale(below))

    # Functions

    def _before(self, writes_to: Tensor | None) -> None:
        self._file_heard()
        if writes_to is not None:
            self._collector.about_to_write(writes_to)

    def _add_operands(self, a: Tensor, b: Tensor) -> None:
        self._operand_sites = self._site_of(a), self._site_of(b)

    def _after(self, heard: Heard) -> None:
        self._heard = heard

    def _blends(self, gate: Tensor, other: Tensor) -> None:
        self._file_heard()
        site = self._site_of(gate)
        if site is not None and site.activation in _GATES and gate.shape == other.shape:
            site.is_gate = True

    def _site_of(self, tensor: Tensor) -> Site | None:
        known = self._seen.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    # Filing what was heard under a name

    def _file_heard(self) -> None:
        """No module claimed it: it goes by the running module's name and the operation's."""
        heard = self._heard
        if heard is None:
            return
        self._heard = None
        frame = self._frames[-1] if self._frames else _Frame("")
        calls = frame.calls[heard.operation] = frame.calls.get(heard.operation, 0) + 1
        operation = heard.operation if calls == 1 else f"{heard.operation}_{calls}"
        self._file(f"{frame.name}.{operation}" if frame.name else operation, heard)

    def _file_outputs(self, name: str, module: nn.Module, output: Any) -> None:
        for suffix, tensor in _tensors(output):
            heard = self._heard
            if heard is not None and heard.tensor is tensor and name:
                self._heard = None
                if _is_simple(module):
                    heard.operation = type(module).__name__
                self._file(name + suffix, heard)
                continue
            self._file_heard()
            if self._site_of(tensor) is None and not self._is_reshaped(tensor):
                activation = ACTIVATION_MODULES.get(type(module))
                self._file((name or "output") + suffix, Heard(tensor, type(module).__name__, activation))

    def _is_reshaped(self, tensor: Tensor) -> bool:
        """The same numbers as a tensor that was filed already, in another shape."""
        base = tensor._base
        return base is not None and base.numel() == tensor.numel() and self._site_of(base) is not None

    def _file(self, name: str, heard: Heard) -> None:
        tensor = heard.tensor
        if not _is_measurable(tensor):
            return
        site, gradient = self._registry.output(name, heard.operation, heard.activation, tensor)
        if heard.operands is not None:
            self._file_branch(name, heard)
        self._seen[id(tensor)] = weakref.ref(tensor), site
        self._collector.add(site, tensor)
        node = tensor.grad_fn if self._taps_gradients else None
        if node is not None:
            tap = partial(self._hear_gradient_guarded, gradient, tensor.output_nr)
            self._taps.append(node.register_prehook(tap))

    def _file_branch(self, name: str, heard: Heard) -> None:
        """Both operands of a residual add become sites, so that |f(x)| / |x| can be told."""
        roles = self._registry.branch_operand
        branch = roles.setdefault(name, heard.branch)
        sites = list(self._operand_sites)
        if branch is None or heard.operands is None:
            return
        for index, operand in enumerate(heard.operands):
            if sites[index] is None and operand is not heard.tensor:
                role = "branch" if index == branch else "shortcut"
                self._file(f"{name}.{role}", Heard(operand, role))
                sites[index] = self._site_of(operand)
        pair = sites[branch], sites[1 - branch]
        if pair[0] is not None and pair[1] is not None:
            self._registry.branches[name] = pair[0].name, pair[1].name

    def _hear_gradient(self, site: Site, output: int, gradients: tuple[Tensor | None, ...]) -> None:
        gradient = gradients[output]
        if gradient is not None:
            self._collector.add(site, gradient if self._unscale is None else self._unscale(gradient))


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def is_in_backward() -> bool:
    """A backward pass is running on this thread: what is called now is the recomputation of a checkpoint."""
    return torch._C._current_graph_task_id() != -1


def _is_simple(module: nn.Module) -> bool:
    """One of torch's own layers: what it computes inside is its output, and nothing else is of interest."""
    return type(module).__module__.startswith("torch.nn.modules.") and not module._modules


def _is_measurable(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_meta and tensor.numel() > 0


def _tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a module returns, with what to add to its name."""
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, Mapping):
        for key, item in output.items():
            yield from ((f".{key}{rest}", tensor) for rest, tensor in _tensors(item))
    elif isinstance(output, (tuple, list)):
        for index, item in enumerate(output):
            yield from ((f"[{index}]{rest}", tensor) for rest, tensor in _tensors(item))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for entry in dataclasses.fields(output):
            yield from ((f".{entry.name}{rest}", tensor) for rest, tensor in _tensors(getattr(output, entry.name)))
