"""The model's own code run again, with branches left out or joined otherwise, call by call along a tape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.errors import DetourError
from thruway.dissecting.finding.branches import Branch, Operand
from thruway.dissecting.running.merging import Merge, Operands
from thruway.dissecting.tracing.functions import METADATA, SHAPED, name_of
from thruway.dissecting.tracing.lineage import Cut, unneeded
from thruway.dissecting.tracing.structure import Path, at, reachable, rebuilt, tensors_at
from thruway.dissecting.tracing.tape import Call, Made, Same, Tape
from thruway.dissecting.tracing.unfused import opened

__all__ = ["Route", "route", "run_along"]


@dataclass(frozen=True)
class Route:
    """What to do along a tape; made once, run as often as one likes."""

    tape: Tape
    merges: Mapping[int, tuple[Branch, Merge | None]]  # by the number of the join; None leaves the branch out
    skipped: frozenset[int]
    blocks: frozenset[int]  # skipped calls whose result someone writes a join into
    catches: Mapping[int, tuple[tuple[Path, bool], ...]]  # by call: arguments needed at a join; copied where True
    last: int  # after this call all goes its own way


def route(tape: Tape, merges: Sequence[tuple[Branch, Merge | None]]) -> Route:
    """The way through `tape` on which these branches are left out (None) or joined by the functions given.

    Calls that serve only branches left out are not computed.
    """
    left_out = [branch for branch, merge in merges if merge is None]
    skipped = unneeded(tape, [Cut(branch.join, branch.shortcut.value) for branch in left_out])
    live = {branch.join: (branch, merge) for branch, merge in merges if branch.join not in skipped}
    catches: dict[int, list[tuple[Path, bool]]] = {}
    for branch, merge in live.values():
        for operand in _operands(branch, merge):
            catches.setdefault(operand.call, []).append((operand.path, operand.copied))
    blocks = {_creation(tape, branch) for branch, _ in live.values()} & skipped
    return Route(
        tape,
        live,
        skipped,
        frozenset(blocks),
        {call: tuple(sorted(set(places), key=str)) for call, places in catches.items()},  # True last: it counts
        max(live, default=-1),
    )


def _operands(branch: Branch, merge: Merge | None) -> list[Operand]:
    needed = [branch.shortcut] if merge is None else [branch.shortcut, branch.branch, branch.gate, branch.carry]
    return [operand for operand in needed if operand is not None]


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


def run_along(model: nn.Module, way: Route, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """One pass of the model along `way`; where that changes nothing, the model's own pass, to the bit.

    Raises:
        DetourError: where the pass makes another call than the tape has, or something that was left out
            turns out to be needed. It gives no number then.
    """
    if not way.merges:
        return model(*args, **kwargs)
    mode = _Rerouting(way)
    with opened(model), mode:
        output = model(*args, **kwargs)
    mode.check_arrival(output)
    return output


class _Rerouting(TorchFunctionMode):
    """While entered, follows a route."""

    def __init__(self, way: Route) -> None:
        super().__init__()
        self._way = way
        self._tape = way.tape
        self._at = 0
        self._blanks: dict[int, Tensor] = {}  # stand for what was not computed
        self._caught: dict[tuple[int, Path], Any] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._tape.silent:
            self._refuse_blanks(func, args, kwargs)
            return func(*args, **kwargs)
        number = self._at
        if number > self._way.last:
            self._refuse_blanks(func, args, kwargs)
            return func(*args, **kwargs)
        if number >= len(self._tape.calls) or self._tape.calls[number].function != func:
            return self._unexpected(func, args, kwargs)
        self._at += 1
        call = self._tape.calls[number]
        for path, is_copied in self._way.catches.get(number, ()):
            tensor = at(args, kwargs, path)
            self._caught[number, path] = tensor.clone() if is_copied else tensor
        if number in self._way.skipped:
            return self._blank(call, args, kwargs)
        if number in self._way.merges:
            return self._join(call, args, kwargs)
        if call.passes and self._blank_in(args, kwargs):
            return self._blank(call, args, kwargs)
        self._refuse_blanks(func, args, kwargs)
        return func(*args, **kwargs)

    # --- what is not computed

    def _blank(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Something of the form of the call's result; an argument that came back comes back."""

        def form(leaf: Any) -> Any:
            if isinstance(leaf, Same):
                return at(args, kwargs, leaf.path)
            return self._empty(leaf, call.number in self._way.blocks) if isinstance(leaf, Made) else leaf

        return rebuilt(call.result, form)

    def _empty(self, made: Made, is_written: bool) -> Tensor:
        value = self._tape.values[made.value]
        blank: Tensor | None
        if is_written:  # a join will be written here
            dense = 0 not in value.stride
            blank = (
                torch.empty_strided(value.shape, value.stride, dtype=value.dtype, device=value.device)
                if dense
                else torch.empty(value.shape, dtype=value.dtype, device=value.device)
            )
        else:  # holds no numbers of its own, so that one serves every pass
            blank = self._tape.blanks.get(made.value)
            if blank is None:
                blank = torch.zeros((), dtype=value.dtype, device=value.device).expand(value.shape)
                self._tape.blanks[made.value] = blank
        self._blanks[id(blank)] = blank
        return blank

    def _blank_in(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        return bool(self._blanks) and any(id(tensor) in self._blanks for _, tensor in tensors_at(args, kwargs))

    def _refuse_blanks(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """No number may come of what was not computed."""
        if self._blank_in(args, kwargs) and (name := name_of(func)) not in METADATA | SHAPED:
            raise DetourError(
                f"{name}, after {self._place()}, works on a branch that was left out, which the recorded pass did "
                "not do there: the model's code depends on its data."
            )

    # --- where branches join

    def _join(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        branch, merge = self._way.merges[call.number]
        shortcut = self._taken(branch.shortcut)
        joined = shortcut if merge is None else self._merged(call, branch, merge, shortcut, args, kwargs)
        target = self._tape.values[call.values[0]]
        if tuple(joined.shape) != target.shape:
            raise DetourError(
                f"{self._tape.describe(call.number)} gave {target.shape} when recorded, and would give "
                f"{tuple(joined.shape)} now."
            )
        if call.writes:
            written: Tensor = at(args, kwargs, call.writes[0])
            if written is not joined:
                written.copy_(joined)
            self._blanks.pop(id(written), None)
            joined = written
        else:
            joined = joined.to(target.dtype)

        def form(leaf: Any) -> Any:
            if isinstance(leaf, Same):
                return at(args, kwargs, leaf.path)
            if isinstance(leaf, Made):
                return joined if leaf.value == target.number else self._empty(leaf, False)
            return leaf

        return rebuilt(call.result, form)

    def _merged(
        self,
        call: Call,
        branch: Branch,
        merge: Merge,
        shortcut: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Tensor:
        gate, carry = self._taken(branch.gate), self._taken(branch.carry)
        if gate is not None and branch.gate_carries:
            gate = 1 - gate
        if branch.branch is not None:
            return merge(Operands(shortcut, self._taken(branch.branch), gate, carry))
        before = shortcut.clone() if call.writes else shortcut
        result = call.function(*args, **kwargs)
        whole = _found(call.result, result, call.values[0]) if not call.writes else at(args, kwargs, call.writes[0])
        return merge(Operands(before, whole if branch.kind == "module" else whole - before, gate, carry))

    def _taken(self, operand: Operand | None) -> Any:
        if operand is None:
            return None
        tensor = self._caught[operand.call, operand.path]
        return tensor if operand.scale == 1.0 else operand.scale * tensor

    # --- off the tape

    def _unexpected(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._refuse_blanks(func, args, kwargs)
        result = func(*args, **kwargs)
        if not any(True for _ in reachable(result)) and not _is_in_place(func):
            return result  # a question that was not asked when recorded changes nothing
        expected = self._tape.describe(self._at) if self._at < len(self._tape.calls) else "the end"
        raise DetourError(f"the pass called {name_of(func)} after {self._place()}, where the tape has {expected}.")

    def _place(self) -> str:
        return self._tape.describe(self._at - 1) if self._at else "the start"

    def check_arrival(self, output: Any) -> None:
        """The pass is over: nothing may be missing, and nothing that was not computed may come out.

        Raises:
            DetourError: if it is otherwise.
        """
        if self._at <= self._way.last:
            raise DetourError(f"the pass ended after {self._place()}, before {self._tape.describe(self._way.last)}.")
        if self._blanks and any(id(tensor) in self._blanks for tensor in reachable(output)):
            raise DetourError("the pass gave out a tensor of a branch that was left out.")


def _found(pattern: Any, result: Any, value: int) -> Tensor:
    """The tensor in a result that the pattern marks as this value."""
    place = next(path for path, leaf in _leaves(pattern) if leaf == Made(value))
    for key in place:
        result = result[key]
    return result  # type: ignore[no-any-return]


def _leaves(pattern: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(pattern, (tuple, list, dict)):
        for key, item in pattern.items() if isinstance(pattern, dict) else enumerate(pattern):
            yield from _leaves(item, (*path, key))
    else:
        yield path, pattern


def _is_in_place(func: Callable[..., Any]) -> bool:
    name = str(getattr(func, "__name__", ""))
    return name in ("__setitem__", "__set__") or (name.endswith("_") and not name.endswith("__"))
