"""Number of parameters that the calls of a tape use."""

import math
from collections.abc import Iterable

from thruway.dissecting.tracing.functions import PIECES, TRANSPARENT
from thruway.dissecting.tracing.tape import Tape

__all__ = ["count_parameters"]


def count_parameters(tape: Tape, calls: Iterable[int]) -> int:
    """Count the elements of the distinct parameters that these calls read.

    If a parameter is read in slices, such as the stacked weight of a `HighwayStack`, only these slices count.
    """
    pieces: dict[int, set[int]] = {}
    whole: set[int] = set()
    for number in calls:
        for read in tape.calls[number].reads:
            value = tape.values[read.value]
            if value.origin != "weight" or _only_makes_weights(tape, number):
                continue
            if len(value.weights) == 1 and _is_piece(tape, read.value):
                pieces.setdefault(min(value.weights), set()).add(read.value)
            else:
                whole |= value.weights
    total = sum(tape.parameters[weight] for weight in whole)
    for weight, values in pieces.items():
        if weight not in whole:
            total += min(tape.parameters[weight], sum(math.prod(tape.values[value].shape) for value in values))
    return total


def _only_makes_weights(tape: Tape, call: int) -> bool:
    """Return True if a call derives weights from weights. The call that reads the derived weight is counted instead."""
    return all(tape.values[value].origin == "weight" for value in tape.calls[call].values)


def _is_piece(tape: Tape, value: int) -> bool:
    """Return True if a value is a parameter or a view of one."""
    while (number := tape.values[value].call) is not None:
        call = tape.calls[number]
        if call.name not in TRANSPARENT | PIECES or len(call.reads) != 1:
            return False
        value = call.reads[0].value
    return True
