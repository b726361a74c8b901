"""The lesioned pass that computes only what the lesion changes; the rest is stored, or not looked at."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.errors import DetourError
from thruway.dissecting.finding.branches import Branch, Operand
from thruway.dissecting.running.merging import Merge, Operands
from thruway.dissecting.running.partial_plan import Plan, is_copied
from thruway.dissecting.running.stored_pass import copied, made
from thruway.dissecting.running.weights import remade
from thruway.dissecting.tracing.functions import METADATA, SHAPED, name_of
from thruway.dissecting.tracing.structure import Path, at, reachable, rebuilt, tensors_at, with_item
from thruway.dissecting.tracing.tape import Call, Made, Same

__all__ = ["resume"]


def resume(
    model: nn.Module, plan: Plan, stored: Mapping[int, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """One lesioned pass of an `opened` model on the inputs that `stored` comes from; its Python runs as it is.

    Raises:
        DetourError: where the pass makes another call than the tape has, or needs what is not there.
    """
    mode = _Resuming(model, plan, stored)
    with mode:
        output = model(*args, **kwargs)
    mode.check_arrival(output)
    return output


class _Resuming(TorchFunctionMode):
    """While entered, follows a plan."""

    def __init__(self, model: nn.Module, plan: Plan, stored: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._plan = plan
        self._tape = plan.way.tape
        self._stored = stored
        self._held = [*model.parameters(), *model.buffers()] if plan.exchanges else []
        self._at = 0
        self._blanks: dict[int, Tensor] = {}  # stand for what was not computed
        self._real: dict[int, Tensor] = {}  # by id of a blank: what was written to it
        self._caught: dict[tuple[int, Path], Any] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        number, plan = self._at, self._plan
        if number > plan.last or func in self._tape.silent:
            self._refuse_blanks(func, args, kwargs)
            return func(*args, **kwargs)
        call = self._tape.calls[number]
        if call.function != func:
            return self._unexpected(func, args, kwargs)
        self._at += 1
        if type(call.result) is Made and number in plan.untouched:  # most of the prefix: the short way
            return self._value(call.result.value)
        for path, is_written_over in plan.way.catches.get(number, ()):
            tensor = self._shown(at(args, kwargs, path))
            is_blank = id(tensor) in self._blanks
            self._caught[number, path] = copied(tensor) if is_written_over and not is_blank else tensor
        if number in plan.way.merges:
            return self._join(call, args, kwargs)
        if number not in plan.computed:
            if call.passes and not self._blank_in(args, kwargs):
                return func(*args, **kwargs)
            return self._given(call, args, kwargs)
        args, kwargs = self._arguments(call, args, kwargs)
        self._refuse_blanks(func, args, kwargs)
        return func(*args, **kwargs)

    # --- what is not computed

    def _given(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a call that is not made: stored, or a blank of the same form."""

        def form(leaf: Any) -> Any:
            if isinstance(leaf, Same):
                return at(args, kwargs, leaf.path)
            return self._value(leaf.value) if isinstance(leaf, Made) else leaf

        return rebuilt(call.result, form)

    def _value(self, number: int) -> Tensor:
        if number in self._plan.needed:
            return self._from_store(number)
        value = self._tape.values[number]
        blank = self._tape.blanks.get(number)
        if blank is None:
            blank = torch.zeros((), dtype=value.dtype, device=value.device).expand(value.shape)
            self._tape.blanks[number] = blank
        self._blanks[id(blank)] = blank
        return blank

    def _from_store(self, number: int) -> Tensor:
        tensor = self._stored[number]
        return copied(tensor) if number in self._plan.fresh else tensor

    def _shown(self, tensor: Any) -> Any:
        """What a tensor stands for by now."""
        return self._real.get(id(tensor), tensor)

    def _blank_in(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        return bool(self._blanks) and any(id(tensor) in self._blanks for _, tensor in tensors_at(args, kwargs))

    def _refuse_blanks(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._blank_in(args, kwargs) and name_of(func) not in METADATA | SHAPED:
            raise DetourError(f"{name_of(func)} works on what was not computed, which the recorded pass did not do.")

    # --- what is computed

    def _arguments(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a computed call: other weights, and what blanks stand for."""
        for path, number in self._plan.exchanges.get(call.number, ()):
            args, kwargs = with_item(args, kwargs, path, remade(self._tape, number, self._held))
        for path, number in self._plan.patched.get(call.number, ()):
            held = at(args, kwargs, path)
            if id(held) not in self._blanks:
                continue
            real = self._from_store(number) if number in self._plan.needed else self._shown(held)
            if path in call.writes:
                self._real[id(held)] = real
            args, kwargs = with_item(args, kwargs, path, real)
        return args, kwargs

    def _join(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        branch, merge = self._plan.way.merges[call.number]
        joined = self._taken(branch.shortcut) if merge is None else self._merged(call, branch, merge, args, kwargs)
        target = self._tape.values[call.values[0]]
        if tuple(joined.shape) != target.shape:
            raise DetourError(f"{self._tape.describe(call.number)} gave {target.shape}, now {tuple(joined.shape)}.")
        if call.writes:
            held = at(args, kwargs, call.writes[0])
            if id(held) in self._blanks:
                joined = copied(joined)
                self._real[id(held)] = joined
            else:
                joined = held if held is joined else held.copy_(joined)
        else:
            is_free = branch.shortcut.value not in self._plan.fresh and not is_copied(self._tape, call.values[0])
            joined = joined.to(target.dtype) if is_free else copied(joined.to(target.dtype))

        def form(leaf: Any) -> Any:
            if isinstance(leaf, Same):
                return joined if leaf.path in call.writes else at(args, kwargs, leaf.path)
            if isinstance(leaf, Made):
                return joined if leaf.value == target.number else self._value(leaf.value)
            return leaf

        return rebuilt(call.result, form)

    def _merged(
        self, call: Call, branch: Branch, merge: Merge, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        shortcut, gate, carry = (self._taken_or_none(o) for o in (branch.shortcut, branch.gate, branch.carry))
        if gate is not None and branch.gate_carries:
            gate = 1 - gate
        if branch.branch is not None:
            return merge(Operands(shortcut, self._taken(branch.branch), gate, carry))
        before = shortcut.clone() if call.writes else shortcut
        args, kwargs = self._arguments(call, args, kwargs)
        self._refuse_blanks(call.function, args, kwargs)
        result = call.function(*args, **kwargs)
        whole = made(call, call.values[0], result, args, kwargs)
        return merge(Operands(before, whole if branch.kind == "module" else whole - before, gate, carry))

    def _taken_or_none(self, operand: Operand | None) -> Any:
        return None if operand is None else self._taken(operand)

    def _taken(self, operand: Operand) -> Tensor:
        if operand.value in self._plan.needed:
            tensor = self._stored[operand.value]
        else:
            tensor = self._shown(self._caught[operand.call, operand.path])
            if id(tensor) in self._blanks:
                raise DetourError("a join works on what was not computed.")
        return tensor if operand.scale == 1.0 else operand.scale * tensor

    # --- off the tape

    def _unexpected(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._refuse_blanks(func, args, kwargs)
        result = func(*args, **kwargs)
        name = str(getattr(func, "__name__", ""))
        is_in_place = name in ("__setitem__", "__set__") or (name.endswith("_") and not name.endswith("__"))
        if not any(True for _ in reachable(result)) and not is_in_place:
            return result  # a question that was not asked when recorded changes nothing
        raise DetourError(f"the pass called {name_of(func)}, where the tape has {self._tape.describe(self._at)}.")

    def check_arrival(self, output: Any) -> None:
        """The pass is over: nothing may be missing, and nothing that was not computed may come out."""
        if self._at <= self._plan.last:
            raise DetourError(f"the pass ended before {self._tape.describe(self._plan.last)}.")
        if self._blanks and any(id(tensor) in self._blanks for tensor in reachable(output)):
            raise DetourError("the pass gave out a tensor that was not computed.")
