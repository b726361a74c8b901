"""The model's own code run again, with branches left out or joined otherwise, call by call along a tape."""

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
    """What to do along a tape; made once, run as often as one likes."""

    tape: Tape
    merges: Mapping[int, tuple[Branch, Merge | None]]  # by the number of the join; None leaves the branch out
    skipped: frozenset[int]
    written_into: frozenset[int]  # skipped calls whose result someone writes a join into
    captures: Mapping[int, tuple[tuple[Path, bool], ...]]  # by call: arguments needed at a join; copied where True
    last: int  # after this call all goes its own plan


def plan_full(tape: Tape, merges: Sequence[tuple[Branch, Merge | None]]) -> FullPlan:
    """The plan through `tape` on which these branches are left out (None) or joined by the functions given.

    Calls that serve only branches left out are not computed.
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
        {call: tuple(sorted(set(places), key=str)) for call, places in captures.items()},  # True last: it counts
        max(live, default=-1),
    )


def _creation(tape: Tape, branch: Branch) -> int:
    """The call that made the tensor which the join writes into; -1 where it makes one of its own."""
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
    """One pass of the model along `plan`; where that changes nothing, the model's own pass, to the bit.

    Raises:
        TapeMismatchError: where the pass makes another call than the tape has, or something that was left out
            turns out to be needed. It gives no number then.
    """
    if not plan.merges:
        return model(*args, **kwargs)
    mode = _FullPass(plan)
    with unfused(model), mode:
        output = model(*args, **kwargs)
    mode.finish(output)
    return output


class _FullPass(TorchFunctionMode):
    """While entered, runs the model's calls along its tape, with joins changed and unneeded calls skipped."""

    def __init__(self, plan: FullPlan) -> None:
        super().__init__()
        self._plan = plan
        self._tape = plan.tape
        self._guard = TapeGuard(plan.tape)
        self._at = 0
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
        for path, is_copied in plan.captures.get(number, ()):
            tensor = item_at(args, kwargs, path)
            self._captured[number, path] = tensor.clone() if is_copied else tensor
        if number in plan.skipped:
            return self._skipped(call, args, kwargs)
        if number in plan.merges:
            return self._join(call, args, kwargs)
        if call.is_passthrough and self._guard.has_placeholder(args, kwargs):
            return self._skipped(call, args, kwargs)
        self._guard.check(func, args, kwargs, self._at)
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
        self._guard.finish(output, self._at, self._plan.last)
