"""Reruns of a model that compute only the values that a lesion changes. All others are stored or not needed.

The values equal those of `full_pass` bit for bit, but they are detached, so there are no gradients.
"""

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
    """Run one lesioned pass of an `unfused` model on the inputs that `stored` was computed from.

    Raises:
        TapeMismatchError: if the pass makes a different call than the tape has, or needs a value that is not stored.
    """
    mode = _PartialPass(model, plan, stored)
    with mode:
        output = model(*args, **kwargs)
    mode.finish(output)
    return output


class _PartialPass(TorchFunctionMode):
    """Torch function mode that executes the calls in a plan, and returns recorded results for all others."""

    def __init__(self, model: nn.Module, plan: PartialPlan, stored: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._plan = plan
        self._tape = plan.full.tape
        self._guard = TapeGuard(plan.full.tape)
        self._stored = stored
        self._state = [*model.parameters(), *model.buffers()] if plan.swaps else []
        self._position = 0
        self._written: dict[int, Tensor] = {}  # by id of a placeholder: the tensor written in its place
        self._captured: dict[tuple[int, Path], Any] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        number, plan = self._position, self._plan
        if number > plan.last or func in self._tape.unrecorded:
            self._guard.check(func, args, kwargs, number)
            return func(*args, **kwargs)
        call = self._tape.calls[number]
        if not self._guard.is_call(call, func, args, kwargs):
            return self._guard.unexpected(func, args, kwargs, number)
        self._position += 1
        if type(call.result) is NewTensor and number in plan.bypassed:  # the fast path for most calls before the lesion
            return self._value(call.result.value)
        for path, is_written_over in plan.full.captures.get(number, ()):
            tensor = self._resolved(item_at(args, kwargs, path))
            is_value = is_written_over and not self._guard.is_placeholder(tensor)
            self._captured[number, path] = copied(tensor) if is_value else tensor
        if number in plan.full.merges:
            return self._join(call, args, kwargs)
        if number not in plan.computed:
            if call.is_passthrough and not self._guard.has_placeholder(args, kwargs):
                return func(*args, **kwargs)
            return recorded_result(call, args, kwargs, self._value)
        args, kwargs = self._arguments(call, args, kwargs)
        self._guard.check(func, args, kwargs, self._position)
        return func(*args, **kwargs)

    # --- calls that are not made

    def _value(self, number: int) -> Tensor:
        return self._from_store(number) if number in self._plan.needed else self._guard.placeholder(number)

    def _from_store(self, number: int) -> Tensor:
        tensor = self._stored[number]
        return copied(tensor) if number in self._plan.overwritten else tensor

    def _resolved(self, tensor: Any) -> Any:
        """Return the tensor that was written in place of a placeholder, or the tensor itself."""
        return self._written.get(id(tensor), tensor)

    # --- calls that are made

    def _arguments(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a computed call, with swapped weights and without placeholders."""
        for path, number in self._plan.swaps.get(call.number, ()):
            args, kwargs = with_item(args, kwargs, path, recomputed(self._tape, number, self._state))
        for path, number in self._plan.patched.get(call.number, ()):
            tensor = item_at(args, kwargs, path)
            if not self._guard.is_placeholder(tensor):
                continue
            real = self._from_store(number) if number in self._plan.needed else self._resolved(tensor)
            if path in call.writes:
                self._written[id(tensor)] = real
            args, kwargs = with_item(args, kwargs, path, real)
        return args, kwargs

    def _join(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        branch, merge = self._plan.full.merges[call.number]

        def compute() -> Tensor:
            real_args, real_kwargs = self._arguments(call, args, kwargs)
            self._guard.check(call.function, real_args, real_kwargs, self._position)
            return tensor_of_value(
                call, call.values[0], call.function(*real_args, **real_kwargs), real_args, real_kwargs
            )

        joined = join_output(call, branch, merge, self._operand, compute)
        target = self._tape.values[call.values[0]]
        check_shape(self._tape, call, joined)
        if call.writes:
            written = item_at(args, kwargs, call.writes[0])
            if self._guard.is_placeholder(written):
                joined = copied(joined)
                self._written[id(written)] = joined
            else:
                joined = written if written is joined else written.copy_(joined)
        else:
            is_free = branch.shortcut.value not in self._plan.overwritten and not is_overwritten_later(
                self._tape, call.values[0]
            )
            joined = joined.to(target.dtype) if is_free else copied(joined.to(target.dtype))
        return recorded_result(
            call, args, kwargs, lambda value: joined if value == target.number else self._value(value), written=joined
        )

    def _operand(self, operand: Operand) -> Tensor:
        if operand.value in self._plan.needed:
            return self._stored[operand.value]
        tensor: Tensor = self._resolved(self._captured[operand.call, operand.path])
        if self._guard.is_placeholder(tensor):
            raise TapeMismatchError("a join needs a value that was not computed.")
        return tensor

    def finish(self, output: Any) -> None:
        self._guard.finish(output, self._position, self._plan.last)
