"""The tape of one forward pass: the torch functions called, the values they read, and the values they made.

A value is the content of a tensor at one time. A tensor that is written to holds a new value from then on, and so
does every other tensor that shares the memory. Calls, values and frames are numbered in the order of their occurrence.
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
    """The content of a tensor between two writes."""

    number: int
    call: int | None  # that made it; None if it existed before the pass
    origin: Origin
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    storage: int  # the same number for tensors that share memory
    parents: tuple[int, ...]  # the data that data was computed from
    weights: frozenset[int]  # the parameters that a weight was computed from


class Read(NamedTuple):
    """An argument of a call that is an earlier value."""

    path: Path
    value: int


@dataclass(frozen=True, slots=True)
class NewTensor:
    """Placeholder for a new tensor in a recorded result."""

    value: int


@dataclass(frozen=True, slots=True)
class ReturnedArgument:
    """Placeholder, in a recorded result, for an argument that is returned unchanged."""

    path: Path


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a torch function."""

    number: int
    function: Callable[..., Any]
    name: str  # as in the tables of `functions`, without underscores
    frame: int  # the module call it was made in
    reads: tuple[Read, ...]
    values: tuple[int, ...]  # the new values, of new tensors and of tensors written to
    constants: tuple[tuple[Any, ...], dict[str, Any]]  # args and kwargs with a Read in place of every tensor
    result: Any  # the result with a NewTensor or ReturnedArgument in place of every tensor
    writes: tuple[Path, ...]  # the arguments written to
    is_passthrough: bool  # returns an argument as it is, and makes no new value
    flops: int  # a multiply-add counts as two


@dataclass(slots=True)
class Frame:
    """One call of a module."""

    number: int
    parent: int | None
    path: str  # "" is the model itself
    kind: str  # name of the module's class
    first: int  # the first call made in it
    last: int = -1  # the last call made in it
    input: int | None = None  # value of its first floating argument
    output: int | None = None  # value of its first floating result


@dataclass(slots=True)
class Tape:
    """A recorded forward pass."""

    calls: list[Call] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)  # number of elements of each
    # functions that neither returned a tensor nor wrote to one: their calls are not on the tape
    unrecorded: set[Callable[..., Any]] = field(default_factory=set)
    uses: Counter[int] = field(default_factory=Counter)  # how often each value is read or leaves the model
    outputs: tuple[int, ...] = ()  # the data in the model's output, in ascending order
    written: dict[int, list[int]] = field(default_factory=dict)  # storage -> the calls that wrote to it
    writes_state: bool = False  # True if a buffer was changed
    draws_random: bool = False  # True if random numbers were drawn
    # by value: a tensor to pass on where a rerun does not compute the value
    placeholders: dict[int, Tensor] = field(default_factory=dict)

    def reads_data(self, call: Call) -> list[Read]:
        """The arguments of a call that are data."""
        return [read for read in call.reads if self.values[read.value].origin == "data"]

    def weights_of(self, call: Call) -> frozenset[int]:
        """The parameters that a call uses."""
        return frozenset[int]().union(*(self.values[read.value].weights for read in call.reads))

    def describe(self, number: int) -> str:
        """Describe a call in messages, for example as "call 7, conv2d in layer1.0"."""
        call = self.calls[number]
        return f"call {number}, {call.name} in {self.frames[call.frame].path or 'the model itself'}"

    def enclosing_frames(self, frame: int) -> tuple[int, ...]:
        """Return the module calls that enclose a module call, from the outermost to itself."""
        frames: list[int] = []
        at: int | None = frame
        while at is not None:
            frames.append(at)
            at = self.frames[at].parent
        return tuple(reversed(frames))


def path_of_value(pattern: Any, number: int) -> Path | None:
    """Return the path of a new value in a recorded result; None if it was written into an argument.

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
    """Return the tensor that holds a value just made by this call."""
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
    """Build the result of a call that is not made, with the recorded structure.

    Args:
        tensor_of: function that returns the tensor for the number of a new value.
        written: replacement for the arguments that the call wrote to. If None, the arguments are used.
    """

    def form(leaf: Any) -> Any:
        if isinstance(leaf, ReturnedArgument):
            return written if written is not None and leaf.path in call.writes else item_at(args, kwargs, leaf.path)
        return tensor_of(leaf.value) if isinstance(leaf, NewTensor) else leaf

    return map_structure(call.result, form)
