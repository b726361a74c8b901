"""Intact pass that stores the values read by partial passes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.running.partial_plan import is_overwritten_later
from thruway.dissecting.running.tape_guard import TapeGuard
from thruway.dissecting.tracing.functions import name_of
from thruway.dissecting.tracing.structure import reachable_tensors
from thruway.dissecting.tracing.tape import Tape, tensor_of_value

__all__ = ["copied", "run_and_store"]


def run_and_store(
    model: nn.Module, tape: Tape, wanted: Iterable[int], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, dict[int, Tensor]]:
    """Run one intact pass of an `unfused` model; return its output, and the wanted values as first computed.

    Raises:
        TapeMismatchError: if the pass makes a different call than the tape has.
    """
    mode = _StoringPass(tape, frozenset(wanted))
    with mode:
        output = model(*args, **kwargs)
    missing = mode.wanted - set(mode.stored)
    if missing:
        raise TapeMismatchError(f"the pass ended before {tape.describe(tape.values[min(missing)].call or 0)}.")
    return output, mode.stored


class _StoringPass(TorchFunctionMode):
    """Context manager that stores the wanted values of a pass."""

    def __init__(self, tape: Tape, wanted: frozenset[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.stored: dict[int, Tensor] = {}
        self._tape = tape
        self._position = 0
        self._calls = {tape.values[number].call for number in wanted}
        self._last = max((number for number in self._calls if number is not None), default=-1)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._position > self._last or func in self._tape.unrecorded:
            return result
        call = self._tape.calls[self._position]
        if not TapeGuard.is_call(call, func, args, kwargs):
            if any(True for _ in reachable_tensors(result)):
                raise TapeMismatchError(
                    f"the pass called {name_of(func)}, where the tape has {self._tape.describe(self._position)}."
                )
            return result
        if self._position in self._calls:
            for number in call.values:
                if number in self.wanted:
                    self._store(number, tensor_of_value(call, number, result, args, kwargs))
        self._position += 1
        return result

    def _store(self, number: int, tensor: Tensor) -> None:
        self.stored[number] = copied(tensor) if is_overwritten_later(self._tape, number) else tensor.detach()


def copied(tensor: Tensor) -> Tensor:
    """Return a detached copy with the same strides, since the choice of a kernel may depend on them."""
    tensor = tensor.detach()
    if 0 in tensor.stride() or tensor.layout != torch.strided:
        return tensor.clone()
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)
