"""The lesioned pass that computes only what the lesion changes; the rest is stored, or not looked at."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.finding.branches import Operand
from thruway.dissecting.running.merging import check_shape, join_output
from thruway.dissecting.running.partial_plan import PartialPlan, is_overwritten_later
from thruway.dissecting.running.stored_pass import copied
from thruway.dissecting.running.tape_guard import TapeGuard
from thruway.dissecting.running.weights import recomputed
from thruway.dissecting.tracing.structure import Path, item_at, with_item
from thruway.dissecting.tracing.tape import Call, NewTensor, recorded_result, tensor_of_value

__all__ = ["run_partial"]


def run_partial(
    model: nn.Module, plan: PartialPlan, stored: Mapping[int, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """One lesioned pass of an `opened` model on the inputs that `stored` comes from; its Python runs as it is.

    Raises:
        TapeMismatchError: where the pass makes another call than the tape has, or needs what is not there.
    """
    mode = _PartialPass(model, plan, stored)
    with mode:
        output = model(*args, **kwargs)
    mode.finish(output)
    return output


class _PartialPass(TorchFunctionMode):
    """While entered, runs the calls of a plan and returns stored values or placeholders from all others."""

    def __init__(self, model: nn.Module, plan: PartialPlan, stored: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._plan = plan
        self._tape = plan.full.tape
        self._guard = TapeGuard(plan.full.tape)
        self._stored = stored
        self._held = [*model.parameters(), *model.buffers()] if plan.swaps else []
        self._at = 0
        self._real: dict[int, Tensor] = {}  # by id of a placeholder: what was written to it
        self._captured: dict[tuple[int, Path], Any] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        number, plan = self._at, self._plan
        if number > plan.last or func in self._tape.unrecorded:
            self._guard.check(func, args, kwargs, number)
            return func(*args, **kwargs)
        call = self._tape.calls[number]
        if call.function != func:
            return self._guard.unexpected(func, args, kwargs, number)
        self._at += 1
        if type(call.result) is NewTensor and number in plan.bypassed:  # most of the prefix: the short way
            return self._value(call.result.value)
        for path, is_written_over in plan.full.captures.get(number, ()):
            tensor = self._shown(item_at(args, kwargs, path))
            is_value = is_written_over and not self._guard.is_placeholder(tensor)
            self._captured[number, path] = copied(tensor) if is_value else tensor
        if number in plan.full.merges:
            return self._join(call, args, kwargs)
        if number not in plan.computed:
            if call.is_passthrough and not self._guard.has_placeholder(args, kwargs):
                return func(*args, **kwargs)
            return recorded_result(call, args, kwargs, self._value)
        args, kwargs = self._arguments(call, args, kwargs)
        self._guard.check(func, args, kwargs, self._at)
        return func(*args, **kwargs)

    # --- what is not computed

    def _value(self, number: int) -> Tensor:
        return self._from_store(number) if number in self._plan.needed else self._guard.placeholder(number)

    def _from_store(self, number: int) -> Tensor:
        tensor = self._stored[number]
        return copied(tensor) if number in self._plan.overwritten else tensor

    def _shown(self, tensor: Any) -> Any:
        """What a tensor stands for by now."""
        return self._real.get(id(tensor), tensor)

    # --- what is computed

    def _arguments(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a computed call: other weights, and what placeholders stand for."""
        for path, number in self._plan.swaps.get(call.number, ()):
            args, kwargs = with_item(args, kwargs, path, recomputed(self._tape, number, self._held))
        for path, number in self._plan.patched.get(call.number, ()):
            held = item_at(args, kwargs, path)
            if not self._guard.is_placeholder(held):
                continue
            real = self._from_store(number) if number in self._plan.needed else self._shown(held)
            if path in call.writes:
                self._real[id(held)] = real
            args, kwargs = with_item(args, kwargs, path, real)
        return args, kwargs

    def _join(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        branch, merge = self._plan.full.merges[call.number]

        def compute() -> Tensor:
            real_args, real_kwargs = self._arguments(call, args, kwargs)
            self._guard.check(call.function, real_args, real_kwargs, self._at)
            return tensor_of_value(
                call, call.values[0], call.function(*real_args, **real_kwargs), real_args, real_kwargs
            )

        joined = join_output(call, branch, merge, self._taken, compute)
        target = self._tape.values[call.values[0]]
        check_shape(self._tape, call, joined)
        if call.writes:
            held = item_at(args, kwargs, call.writes[0])
            if self._guard.is_placeholder(held):
                joined = copied(joined)
                self._real[id(held)] = joined
            else:
                joined = held if held is joined else held.copy_(joined)
        else:
            is_free = branch.shortcut.value not in self._plan.overwritten and not is_overwritten_later(
                self._tape, call.values[0]
            )
            joined = joined.to(target.dtype) if is_free else copied(joined.to(target.dtype))
        return recorded_result(
            call, args, kwargs, lambda value: joined if value == target.number else self._value(value), written=joined
        )

    def _taken(self, operand: Operand) -> Tensor:
        if operand.value in self._plan.needed:
            return self._stored[operand.value]
        tensor: Tensor = self._shown(self._captured[operand.call, operand.path])
        if self._guard.is_placeholder(tensor):
            raise TapeMismatchError("a join works on what was not computed.")
        return tensor

    def finish(self, output: Any) -> None:
        self._guard.finish(output, self._at, self._plan.last)
