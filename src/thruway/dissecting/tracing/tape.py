"""One forward pass, written down: which function was called when, on which earlier values, and what it gave.

A value is what a tensor held at one time. A tensor that is written to holds a new value from then on, and so
does every other tensor that shares the memory.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from thruway.dissecting.tracing.structure import Path, item_at, map_structure

__all__ = [
    "Call",
    "Frame",
    "NewTensor",
    "Origin",
    "Read",
    "ReturnedArgument",
    "Tape",
    "Value",
    "path_of_value",
    "recorded_result",
    "tensor_of_value",
]

# data: computed from the model's floating inputs, or looked up by its indices.
# index: integers and booleans that depend on the inputs. weight: made of parameters only. constant: the rest.
Origin = Literal["data", "index", "weight", "constant"]


@dataclass(frozen=True, slots=True)
class Value:
    """What a tensor held between two writes."""

    number: int
    call: int | None  # None: it was there before
    origin: Origin
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    storage: int  # the same number for tensors that share memory
    parents: tuple[int, ...]  # the data it was computed from; of data only
    weights: frozenset[int]  # which parameters it is made of, where it is a weight


class Read(NamedTuple):
    """A call's argument that is an earlier value."""

    path: Path
    value: int


@dataclass(frozen=True, slots=True)
class NewTensor:
    """In a call's result: a new tensor."""

    value: int


@dataclass(frozen=True, slots=True)
class ReturnedArgument:
    """In a call's result: the very tensor that came as this argument."""

    path: Path


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a torch function."""

    number: int
    function: Callable[..., Any]
    name: str  # as in FUNCTIONS' tables: without underscores
    frame: int  # the module call that was running
    reads: tuple[Read, ...]
    values: tuple[int, ...]  # new values: of new tensors, and of tensors written to
    constants: tuple[tuple[Any, ...], dict[str, Any]]  # its arguments, a Read in place of every tensor
    result: Any  # of the form of its result, NewTensor or Same in place of every tensor
    writes: tuple[Path, ...]  # arguments written to
    is_passthrough: bool  # gives back an argument as it came
    flops: int  # multiply-adds count twice


@dataclass(slots=True)
class Frame:
    """One call of a module."""

    number: int
    parent: int | None
    path: str  # "" is the model itself
    kind: str  # the module's class
    first: int  # the first call made in it, and ...
    last: int = -1  # ... the last
    input: int | None = None  # its first floating argument
    output: int | None = None  # its first floating result


@dataclass(slots=True)
class Tape:
    """A whole forward pass."""

    calls: list[Call] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)  # how many numbers each holds
    unrecorded: set[Callable[..., Any]] = field(default_factory=set)  # functions that gave no tensor: not numbered
    uses: Counter[int] = field(default_factory=Counter)  # how often each value is read, or taken out of the model
    outputs: tuple[int, ...] = ()  # values the caller gets, in the order of their numbers
    written: dict[int, list[int]] = field(default_factory=dict)  # storage -> the calls that wrote to it
    writes_state: bool = False  # a buffer was changed
    draws_random: bool = False  # random numbers were drawn
    placeholders: dict[int, Tensor] = field(default_factory=dict)  # stand for values in passes that do not compute them

    def reads_data(self, call: Call) -> list[Read]:
        """The arguments through which data flows in."""
        return [read for read in call.reads if self.values[read.value].origin == "data"]

    def weights_of(self, call: Call) -> frozenset[int]:
        """The parameters that a call works with."""
        return frozenset[int]().union(*(self.values[read.value].weights for read in call.reads))

    def describe(self, number: int) -> str:
        """A call in words: "call 7, conv2d in layer1.0"."""
        call = self.calls[number]
        return f"call {number}, {call.name} in {self.frames[call.frame].path or 'the model itself'}"

    def enclosing_frames(self, frame: int) -> tuple[int, ...]:
        """The module calls around a module call, outermost first, itself last."""
        frames: list[int] = []
        at: int | None = frame
        while at is not None:
            frames.append(at)
            at = self.frames[at].parent
        return tuple(reversed(frames))


def path_of_value(pattern: Any, number: int) -> Path | None:
    """Where in a call's result a value lies; None for one that was written into an argument.

    >>> path_of_value((NewTensor(3), [NewTensor(4)]), 4)
    (1, 0)
    """
    if isinstance(pattern, (tuple, list, dict)):
        for key, item in pattern.items() if isinstance(pattern, dict) else enumerate(pattern):
            inside = path_of_value(item, number)
            if inside is not None:
                return (key, *inside)
        return None
    return () if pattern == NewTensor(number) else None


def tensor_of_value(call: Call, number: int, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The tensor that holds a value just made."""
    place = path_of_value(call.result, number)
    if place is None:
        return item_at(args, kwargs, call.writes[0])  # type: ignore[no-any-return]
    for key in place:
        result = result[key]
    return result  # type: ignore[no-any-return]


def recorded_result(
    call: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    tensor_of: Callable[[int], Any],
    written: Tensor | None = None,
) -> Any:
    """A result of the form that a call had when recorded, for a call that is not made.

    Args:
        tensor_of: the tensor for a new value.
        written: takes the place of arguments that the call wrote to; None for the arguments themselves.
    """

    def form(leaf: Any) -> Any:
        if isinstance(leaf, ReturnedArgument):
            return written if written is not None and leaf.path in call.writes else item_at(args, kwargs, leaf.path)
        return tensor_of(leaf.value) if isinstance(leaf, NewTensor) else leaf

    return map_structure(call.result, form)
