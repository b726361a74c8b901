"""Recomputation of the weights of a branch from the parameters, for example as slices of a stacked tensor."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from thruway.dissecting.tracing.structure import with_item
from thruway.dissecting.tracing.tape import Tape, path_of_value, tensor_of_value

__all__ = ["is_recomputable", "recomputed"]


def is_recomputable(tape: Tape, number: int, state_count: int) -> bool:
    """Return True if a value is a parameter or a buffer, or can be computed from these alone.

    A value that was written into a tensor cannot, since the rest of that tensor is not known.

    Args:
        state_count: number of parameters and buffers of the model, which are the first values of the tape.
    """
    if number < state_count:
        return True
    value = tape.values[number]
    if value.origin != "weight" or value.call is None or tape.draws_random:
        return False
    call = tape.calls[value.call]
    return path_of_value(call.result, number) is not None and all(
        is_recomputable(tape, read.value, state_count) for read in call.reads
    )


def recomputed(tape: Tape, number: int, state: Sequence[Tensor]) -> Tensor:
    """Compute such a value from the current parameters and buffers. Gradients flow to the parameters."""
    if number < len(state):
        return state[number]
    made_by = tape.values[number].call
    assert made_by is not None
    call = tape.calls[made_by]
    args, kwargs = call.constants
    for read in call.reads:
        args, kwargs = with_item(args, kwargs, read.path, recomputed(tape, read.value, state))
    result: Any = call.function(*args, **kwargs)
    return tensor_of_value(call, number, result, args, kwargs)
