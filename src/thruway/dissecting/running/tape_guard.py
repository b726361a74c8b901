"""Checks that a rerun follows its tape, and placeholders for values that it does not compute."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.tracing.functions import CASTS, METADATA, SHAPE_ONLY, name_of
from thruway.dissecting.tracing.structure import reachable_tensors, tensors_in_call
from thruway.dissecting.tracing.tape import Call, Tape

__all__ = ["TapeGuard"]


class TapeGuard:
    """Placeholders of one pass, and checks that no result depends on a placeholder or on a call that is not on the
    tape.

    `position` is the number of the next call on the tape.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._placeholders: dict[int, Tensor] = {}  # by id

    # --- placeholders

    def placeholder(self, number: int) -> Tensor:
        """Return a tensor with the shape and dtype of a value, made once for all passes along the tape."""
        blank = self._tape.placeholders.get(number)
        if blank is None:
            value = self._tape.values[number]
            blank = torch.zeros((), dtype=value.dtype, device=value.device).expand(value.shape)
            self._tape.placeholders[number] = blank
        self._placeholders[id(blank)] = blank
        return blank

    def writable_placeholder(self, number: int) -> Tensor:
        """Return a tensor with the shape and dtype of a value, and with memory for a join to write to."""
        value = self._tape.values[number]
        if 0 in value.stride:
            blank = torch.empty(value.shape, dtype=value.dtype, device=value.device)
        else:
            blank = torch.empty_strided(value.shape, value.stride, dtype=value.dtype, device=value.device)
        self._placeholders[id(blank)] = blank
        return blank

    def release(self, tensor: Tensor) -> None:
        """Allow a placeholder to be used, because it has been written to."""
        self._placeholders.pop(id(tensor), None)

    def is_placeholder(self, tensor: Any) -> bool:
        """Return True if a tensor is a placeholder."""
        return id(tensor) in self._placeholders

    def has_placeholder(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Return True if a placeholder is among the arguments of a call."""
        return bool(self._placeholders) and any(
            id(tensor) in self._placeholders for _, tensor in tensors_in_call(args, kwargs)
        )

    # --- checks

    @staticmethod
    def is_call(call: Call, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Return True if a call is the one on the tape: of `x.type()` and `x.type(dtype)`, only the second is on it."""
        return (
            call.function == func and len(args) == len(call.constants[0]) and kwargs.keys() == call.constants[1].keys()
        )

    def check(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int) -> None:
        """Check that a call does not compute with a placeholder. A call may query its shape or dtype.

        Raises:
            TapeMismatchError: if the call computes with a placeholder.
        """
        name = name_of(func)
        if name in METADATA | SHAPE_ONLY:
            return
        if name in CASTS:  # a placeholder has the dtype and device of the value
            args, kwargs = args[:1], {}
        if self.has_placeholder(args, kwargs):
            raise TapeMismatchError(
                f"{name}, after {self._place(position)}, uses a value that was not computed, which the recorded pass "
                "did not do there: the model's calls depend on its data."
            )

    def unexpected(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], position: int) -> Any:
        """Run a call that is not on the tape, and return its result if the call has no effect on tensors.

        Raises:
            TapeMismatchError: if it returns a tensor or writes to one.
        """
        self.check(func, args, kwargs, position)
        result = func(*args, **kwargs)
        if not any(True for _ in reachable_tensors(result)) and not _is_in_place(func):
            return result
        raise TapeMismatchError(
            f"the pass called {name_of(func)} after {self._place(position)}, where the tape has "
            f"{self._tape.describe(position)}."
        )

    def finish(self, output: Any, position: int, last: int) -> None:
        """Check that a completed pass made every call up to `last` and returned no placeholder.

        Raises:
            TapeMismatchError: if a call is missing, or the output contains a placeholder.
        """
        if position <= last:
            raise TapeMismatchError(
                f"the pass ended after {self._place(position)}, before {self._tape.describe(last)}."
            )
        if self._placeholders and any(id(tensor) in self._placeholders for tensor in reachable_tensors(output)):
            raise TapeMismatchError("the pass returned a tensor that was not computed.")

    def _place(self, position: int) -> str:
        return self._tape.describe(position - 1) if position else "the start"


def _is_in_place(func: Callable[..., Any]) -> bool:
    name = str(getattr(func, "__name__", ""))
    return name in ("__setitem__", "__set__") or (name.endswith("_") and not name.endswith("__"))
