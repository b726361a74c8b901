"""Recording a forward pass as a tape while the model's own code runs unchanged."""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.tracing.flops import FlopCounter
from thruway.dissecting.tracing.functions import METADATA, SHAPE_ONLY, name_of
from thruway.dissecting.tracing.memory import Memory
from thruway.dissecting.tracing.model_state import RandomStates, restored_buffers
from thruway.dissecting.tracing.structure import Path, map_structure, reachable_tensors, tensors_in, tensors_in_call
from thruway.dissecting.tracing.tape import Call, Frame, NewTensor, Origin, Read, ReturnedArgument, Tape, Value
from thruway.dissecting.tracing.unfused import unfused
from thruway.watching.hooks.function_mode import action_of, written_by

__all__ = ["record"]


def record(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tape:
    """Run the model once on these arguments and return the tape. Buffers and random states are restored.

    The pass runs in the current mode: training or evaluation, with or without gradients, with or without autocast.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> tape = record(net, (torch.ones(1, 2),), {})
    >>> [tape.describe(call.number) for call in tape.calls], tape.calls[0].flops
    (['call 0, linear in 0', 'call 1, relu in 1'], 12)
    """
    states = RandomStates(model)
    recorder = _Recorder(model, args, kwargs)
    try:
        with (
            restored_buffers(model) as changed,
            unfused(model),
            _module_hooks(model, recorder),
            recorder.flops,
            recorder,
        ):
            output = model(*args, **kwargs)
        recorder.finish(model, output)
        recorder.tape.draws_random = states.have_changed()
        recorder.tape.writes_state = any(changed)
    finally:
        states.restore()
    return recorder.tape


@contextlib.contextmanager
def _module_hooks(model: nn.Module, recorder: "_Recorder") -> Iterator[None]:
    """Report the start and end of every module call to `recorder` during the block."""
    handles = []
    try:
        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            handles.append(module.register_forward_pre_hook(recorder.entering(path), with_kwargs=True, prepend=True))
            handles.append(module.register_forward_hook(recorder.leaving, with_kwargs=True, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Recorder(TorchFunctionMode):
    """Context manager that records every call of a torch function on `tape`."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.tape = Tape()
        self.flops = FlopCounter()
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._memory = Memory()
        self._stack: list[int] = []
        self._outside: list[Tensor] = []  # parameters and arguments, which outlive the pass
        for index, parameter in enumerate(model.parameters()):
            self.tape.parameters.append(parameter.numel())
            self._new_value(parameter, None, "weight", weights=frozenset((index,)))
            self._outside.append(parameter)
        for buffer in model.buffers():
            self._new_value(buffer, None, "constant")
        for tensor in reachable_tensors((args, dict(kwargs))):
            self._new_value(tensor, None, "data" if _is_floating(tensor) else "index")
            self._outside.append(tensor)

    # --- module calls

    def entering(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            parent = self._stack[-1] if self._stack else None
            frame = Frame(len(self.tape.frames), parent, path, type(module).__name__, len(self.tape.calls))
            frame.input = self._first_floating((args, kwargs))
            self.tape.frames.append(frame)
            self._stack.append(frame.number)

        return enter

    def leaving(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        frame = self.tape.frames[self._stack.pop()]
        frame.last = len(self.tape.calls) - 1
        frame.output = self._first_floating(output)

    def _first_floating(self, value: Any) -> int | None:
        """The first floating tensor in a structure, as a value."""
        for tensor in reachable_tensors(value):
            if _is_floating(tensor):
                return self._value_of(tensor)
        return None

    # --- function calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        arg_tensors = list(tensors_in_call(args, kwargs))
        name = name_of(func)
        reads = [] if name in SHAPE_ONLY else [Read(path, self._value_of(tensor)) for path, tensor in arg_tensors]
        constants = _constants(args, kwargs, arg_tensors, reads)
        versions, flops = [_version(tensor) for _, tensor in arg_tensors], self.flops.total
        result = func(*args, **kwargs)
        written = _written(
            func, args, kwargs, [t for (_, t), v in zip(arg_tensors, versions, strict=True) if v != _version(t)]
        )
        if not written and not any(True for _ in tensors_in(result)):
            self.tape.unrecorded.add(func)
            for read in () if name in METADATA else reads:
                self._count_use(read.value)  # Python read its elements
            return result
        self._append_call(func, name, arg_tensors, reads, constants, result, written, self.flops.total - flops)
        return result

    def _append_call(
        self,
        func: Callable[..., Any],
        name: str,
        arg_tensors: list[tuple[Path, Tensor]],
        reads: list[Read],
        constants: Any,
        result: Any,
        written: list[Tensor],
        flops: int,
    ) -> None:
        number = len(self.tape.calls)
        places = {id(tensor): path for path, tensor in reversed(arg_tensors)}
        made: list[int] = []
        for tensor in written:
            for changed in (tensor, *self._memory.sharing(tensor)):
                earlier = self._value_of(changed)
                made.append(self._new_value(changed, number, *self._origin([earlier, *(read.value for read in reads)])))
                self.tape.written.setdefault(self.tape.values[made[-1]].storage, []).append(number)

        def recorded(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            if id(leaf) in places:
                return ReturnedArgument(places[id(leaf)])
            made.append(self._new_value(leaf, number, *self._origin([read.value for read in reads])))
            return NewTensor(made[-1])

        pattern = map_structure(result, recorded)
        is_passthrough = not made
        if not is_passthrough:
            self.tape.uses.update(read.value for read in reads)
        paths = tuple(path for path, tensor in arg_tensors if any(tensor is w for w in written))
        frame = self._stack[-1] if self._stack else 0
        kept = () if is_passthrough else tuple(reads)
        self.tape.calls.append(
            Call(
                number,
                func,
                name,
                frame,
                kept,
                tuple(dict.fromkeys(made)),
                constants,
                pattern,
                paths,
                is_passthrough,
                flops,
            )
        )

    # --- values

    def _value_of(self, tensor: Tensor) -> int:
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        # A new view of known memory that was made without a recorded call.
        self._memory.register(tensor)
        shared = [self._known[id(other)][1] for other in self._memory.sharing(tensor) if id(other) in self._known]
        return self._new_value(tensor, None, *(self._origin([max(shared)]) if shared else ("constant",)))

    def _new_value(
        self,
        tensor: Tensor,
        call: int | None,
        origin: Origin,
        parents: tuple[int, ...] = (),
        weights: frozenset[int] = frozenset(),
    ) -> int:
        if origin == "data" and not _is_floating(tensor):
            origin, parents = "index", ()
        number = len(self.tape.values)
        stride = tuple(tensor.stride()) if tensor.layout == torch.strided else ()
        shape, storage = tuple(tensor.shape), self._memory.register(tensor)
        self.tape.values.append(
            Value(number, call, origin, shape, stride, tensor.dtype, tensor.device, storage, parents, weights)
        )
        self._known[id(tensor)] = weakref.ref(tensor), number
        return number

    def _origin(self, sources: list[int]) -> tuple[Origin, tuple[int, ...], frozenset[int]]:
        """Origin, parent data and parameters of a value computed from these."""
        values = [self.tape.values[number] for number in dict.fromkeys(sources)]
        data = tuple(value.number for value in values if value.origin == "data")
        weights = frozenset[int]().union(*(value.weights for value in values))
        origins = {value.origin for value in values}
        # A boolean converted to float is a mask, but an integer may be an image or a count.
        is_counted = any(value.origin == "index" and value.dtype != torch.bool for value in values)
        if data or is_counted:
            return "data", data, frozenset()
        if "index" in origins:
            return "index", (), frozenset()
        return ("weight", (), weights) if weights else ("constant", (), frozenset())

    def _count_use(self, value: int) -> None:
        self.tape.uses[value] += 1

    def finish(self, model: nn.Module, output: Any) -> None:
        """Complete the tape: mark values that can be reached from outside the pass as used."""
        outputs = [self._value_of(tensor) for tensor in reachable_tensors(output)]
        self.tape.outputs = tuple(sorted({v for v in outputs if self.tape.values[v].origin == "data"}))
        for value in outputs:
            self._count_use(value)
        for tensor in self._outside:
            self._count_use(self._value_of(tensor))
        for module in model.modules():
            for name, value in vars(module).items():
                if name not in ("_parameters", "_buffers", "_modules"):
                    for tensor in reachable_tensors(value):
                        self._count_use(self._value_of(tensor))
        self.tape.unrecorded -= {call.function for call in self.tape.calls}
        self._known.clear()
        self._outside.clear()


def _is_floating(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _constants(
    args: tuple[Any, ...], kwargs: dict[str, Any], arg_tensors: list[tuple[Path, Tensor]], reads: list[Read]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with a Read in place of each tensor, so that the tape keeps no tensor alive."""
    numbers = {id(tensor): read for (_, tensor), read in zip(arg_tensors, reads, strict=bool(reads))}

    def without_tensor(leaf: Any) -> Any:
        return numbers.get(id(leaf), ...) if isinstance(leaf, Tensor) else leaf

    return tuple(map_structure(value, without_tensor) for value in args), {
        key: map_structure(value, without_tensor) for key, value in kwargs.items()
    }


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # inference tensors have no version counter
        return 0


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bumped: list[Tensor]) -> list[Tensor]:
    """Return the arguments that were written to.

    Views share a version counter, so a changed version alone does not mean that the view itself was written to.
    """
    target = written_by(action_of(func), args, kwargs)
    if target is None:
        return bumped
    if target.is_inference() or any(target is tensor for tensor in bumped):
        return [target, *(t for t in bumped if t is not target and not _share(t, target))]
    return bumped


def _share(a: Tensor, b: Tensor) -> bool:
    """Return True if two tensors have the same storage. `Memory.sharing` determines which of them overlap."""
    return bool(a.untyped_storage()._cdata == b.untyped_storage()._cdata)
