"""Reruns of a whole model along its tape, with branches left out or joins changed.

The model's own code runs, so gradients and in-place operations work as in the intact pass. `partial_pass` has the
faster rerun from stored values, without gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.running.merging import Merge, check_shape, join_output, operands_of
from thruway.dissecting.running.tape_guard import TapeGuard
from thruway.dissecting.tracing.lineage import Cut, unneeded
from thruway.dissecting.tracing.structure import Path, item_at
from thruway.dissecting.tracing.tape import Call, Tape, recorded_result, tensor_of_value
from thruway.dissecting.tracing.unfused import unfused

__all__ = ["FullPlan", "plan_full", "run_full"]


@dataclass(frozen=True)
class FullPlan:
    """The changes to a pass along a tape. A plan is made once and can be run many times.

    Attributes:
        tape: the tape to follow.
        merges: for each number of a join, the branch and its merge function, or None to leave the branch out.
        skipped: the calls that are not made.
        written_into: skipped calls whose result a join writes into.
        captures: for each number of a call, the arguments that a join needs later; True if they must be copied.
        last: number of the last call that is checked against the tape.
    """

    tape: Tape
    merges: Mapping[int, tuple[Branch, Merge | None]]
    skipped: frozenset[int]
    written_into: frozenset[int]
    captures: Mapping[int, tuple[tuple[Path, bool], ...]]
    last: int


def plan_full(tape: Tape, merges: Sequence[tuple[Branch, Merge | None]]) -> FullPlan:
    """Plan a pass along `tape` with these branches left out (None) or joined by these functions.

    Calls that only the omitted branches need are skipped.
    """
    left_out = [branch for branch, merge in merges if merge is None]
    skipped = unneeded(tape, [Cut(branch.join, branch.shortcut.value) for branch in left_out])
    live = {branch.join: (branch, merge) for branch, merge in merges if branch.join not in skipped}
    captures: dict[int, list[tuple[Path, bool]]] = {}
    for branch, merge in live.values():
        for operand in operands_of(branch, merge):
            captures.setdefault(operand.call, []).append((operand.path, operand.copied))
    written_into = {_creation(tape, branch) for branch, _ in live.values()} & skipped
    return FullPlan(
        tape,
        live,
        skipped,
        frozenset(written_into),
        {call: tuple(sorted(set(places), key=str)) for call, places in captures.items()},  # True last, so it counts
        max(live, default=-1),
    )


def _creation(tape: Tape, branch: Branch) -> int:
    """The call that made the tensor which a join writes into; -1 if the join makes a new tensor."""
    call = tape.calls[branch.join]
    if not call.writes:
        return -1
    path = call.writes[0]
    while True:
        value = next(read.value for read in call.reads if read.path == path)
        number = tape.values[value].call
        if number is None:
            return -1
        call = tape.calls[number]
        if value != call.values[0] or not call.writes:
            return number
        path = call.writes[0]


def run_full(model: nn.Module, plan: FullPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run one pass of the model along `plan`. A plan that changes nothing runs the bare model.

    Raises:
        TapeMismatchError: if the pass makes a different call than the tape has, or if it needs a value that was not
            computed.
    """
    if not plan.merges:
        return model(*args, **kwargs)
    mode = _FullPass(plan)
    with unfused(model), mode:
        output = model(*args, **kwargs)
    mode.finish(output)
    return output


class _FullPass(TorchFunctionMode):
    """Context manager that changes joins and skips unneeded calls of a pass along its tape."""

    def __init__(self, plan: FullPlan) -> None:
        super().__init__()
        self._plan = plan
        self._tape = plan.tape
        self._guard = TapeGuard(plan.tape)
        self._position = 0
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
        for path, is_copied in plan.captures.get(number, ()):
            tensor = item_at(args, kwargs, path)
            self._captured[number, path] = tensor.clone() if is_copied else tensor
        if number in plan.skipped:
            return self._skipped(call, args, kwargs)
        if number in plan.merges:
            return self._join(call, args, kwargs)
        if call.is_passthrough and self._guard.has_placeholder(args, kwargs):
            return self._skipped(call, args, kwargs)
        self._guard.check(func, args, kwargs, self._position)
        return func(*args, **kwargs)

    def _skipped(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        is_written = call.number in self._plan.written_into
        placeholder = self._guard.writable_placeholder if is_written else self._guard.placeholder
        return recorded_result(call, args, kwargs, placeholder)

    def _join(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        branch, merge = self._plan.merges[call.number]

        def compute() -> Tensor:
            return tensor_of_value(call, call.values[0], call.function(*args, **kwargs), args, kwargs)

        joined = join_output(call, branch, merge, lambda operand: self._captured[operand.call, operand.path], compute)
        target = self._tape.values[call.values[0]]
        check_shape(self._tape, call, joined)
        if call.writes:
            written: Tensor = item_at(args, kwargs, call.writes[0])
            if written is not joined:
                written.copy_(joined)
            self._guard.release(written)
            joined = written
        else:
            joined = joined.to(target.dtype)
        return recorded_result(
            call, args, kwargs, lambda value: joined if value == target.number else self._guard.placeholder(value)
        )

    def finish(self, output: Any) -> None:
        self._guard.finish(output, self._position, self._plan.last)
