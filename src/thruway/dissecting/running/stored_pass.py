"""The intact pass that stores what lesioned passes need."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.running.partial_plan import is_overwritten_later
from thruway.dissecting.tracing.functions import name_of
from thruway.dissecting.tracing.structure import reachable_tensors
from thruway.dissecting.tracing.tape import Tape, tensor_of_value

__all__ = ["Store", "copied", "run_and_store"]

Store = dict[int, Tensor]


def run_and_store(
    model: nn.Module, tape: Tape, wanted: Iterable[int], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, Store]:
    """One intact pass of an `opened` model: what it gives, and the values wanted as they were when made.

    Raises:
        TapeMismatchError: where the pass makes another call than the tape has.
    """
    mode = _Storing(tape, frozenset(wanted))
    with mode:
        output = model(*args, **kwargs)
    missing = mode.wanted - set(mode.store)
    if missing:
        raise TapeMismatchError(f"the pass ended before {tape.describe(tape.values[min(missing)].call or 0)}.")
    return output, mode.store


class _Storing(TorchFunctionMode):
    """While entered, keeps some values."""

    def __init__(self, tape: Tape, wanted: frozenset[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.store: Store = {}
        self._tape = tape
        self._at = 0
        self._calls = {tape.values[number].call for number in wanted}
        self._last = max((number for number in self._calls if number is not None), default=-1)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._at > self._last or func in self._tape.unrecorded:
            return result
        call = self._tape.calls[self._at]
        if call.function != func:
            if any(True for _ in reachable_tensors(result)):
                raise TapeMismatchError(
                    f"the pass called {name_of(func)}, where the tape has {self._tape.describe(self._at)}."
                )
            return result
        if self._at in self._calls:
            for number in call.values:
                if number in self.wanted:
                    self._keep(number, tensor_of_value(call, number, result, args, kwargs))
        self._at += 1
        return result

    def _keep(self, number: int, tensor: Tensor) -> None:
        self.store[number] = copied(tensor) if is_overwritten_later(self._tape, number) else tensor.detach()


def copied(tensor: Tensor) -> Tensor:
    """A copy that lies in memory as the tensor does: kernels may choose by that."""
    tensor = tensor.detach()
    if 0 in tensor.stride() or tensor.layout != torch.strided:
        return tensor.clone()
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)
