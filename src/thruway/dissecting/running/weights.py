"""A branch's weights, made of the model's parameters anew: layers of a stack are slices of one tensor."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from thruway.dissecting.tracing.structure import with_item
from thruway.dissecting.tracing.tape import Call, Tape, path_of_value

__all__ = ["is_recomputable", "recomputed"]


def is_recomputable(tape: Tape, number: int, held: int) -> bool:
    """Whether a value is a parameter or a buffer, or made of nothing else by calls that can be made again.

    One that was written into a tensor is not: nothing says what else the tensor held.

    Args:
        held: how many parameters and buffers the model has: the first values of the tape.
    """
    if number < held:
        return True
    value = tape.values[number]
    if value.origin != "weight" or value.call is None or tape.draws_random:
        return False
    call = tape.calls[value.call]
    return path_of_value(call.result, number) is not None and all(
        is_recomputable(tape, r.value, held) for r in call.reads
    )


def recomputed(tape: Tape, number: int, held: Sequence[Tensor]) -> Tensor:
    """The tensor that such a value is, of the parameters and buffers as they stand now; gradients flow to them."""
    if number < len(held):
        return held[number]
    call = _maker(tape, number)
    args, kwargs = call.constants
    for read in call.reads:
        args, kwargs = with_item(args, kwargs, read.path, recomputed(tape, read.value, held))
    place = path_of_value(call.result, number)
    assert place is not None
    result: Any = call.function(*args, **kwargs)
    for key in place:
        result = result[key]
    return result  # type: ignore[no-any-return]


def _maker(tape: Tape, number: int) -> Call:
    call = tape.values[number].call
    assert call is not None
    return tape.calls[call]
