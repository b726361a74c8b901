"""Layers of a network without shortcuts, each of which can be left out."""

import itertools

from thruway.dissecting.finding.branches import Operand
from thruway.dissecting.finding.joins import FoundJoin
from thruway.dissecting.finding.shortcuts import MAPS, role_of
from thruway.dissecting.tracing.lineage import Cut, Lineage, unneeded
from thruway.dissecting.tracing.tape import Tape

__all__ = ["first_read", "layers_of"]


def layers_of(lineage: Lineage) -> tuple[list[FoundJoin], list[tuple[int, str]]]:
    """Return the layers that can be left out, and the others with the reason why they cannot.

    A layer begins with a map that has weights. It includes the norm and activation after it, up to the next map or
    the next change of shape.
    """
    found: list[FoundJoin] = []
    refused: list[tuple[int, str]] = []
    for start, end in _layers(lineage):
        tape = lineage.tape
        x, y = tape.values[start], tape.values[end]
        join = y.call
        assert join is not None
        if x.shape != y.shape:
            heavy = min(n for n in _calls(lineage, start, end) if tape.weights_of(tape.calls[n]))
            refused.append((heavy, f"it maps {x.shape} to {y.shape}, so it cannot be left out"))
            continue
        calls = unneeded(tape, [Cut(join, start)])
        shortcut = first_read(tape, start, last=join)
        assert shortcut is not None
        found.append(FoundJoin("module", join, shortcut, None, None, False, None, start, end, calls))
    return found, refused


def _layers(lineage: Lineage) -> list[tuple[int, int]]:
    """The first and last value of each layer."""
    tape = lineage.tape
    layers: list[tuple[int, int]] = []
    is_open = False
    chain = _chain(lineage)
    for before, after in itertools.pairwise(chain):
        steps = [tape.calls[number] for number in _calls(lineage, before, after)]
        if any(tape.weights_of(call) and role_of(tape, call) in MAPS for call in steps):
            layers.append((before, after))
            is_open = True
        elif is_open and tape.values[before].shape == tape.values[after].shape:
            layers[-1] = layers[-1][0], after
        else:
            is_open = False
    return layers


def _calls(lineage: Lineage, start: int, end: int) -> set[int]:
    numbers = {lineage.tape.values[value].call for value in lineage.between(start, end)}
    return {number for number in numbers if number is not None}


def _chain(lineage: Lineage) -> list[int]:
    """The values that dominate the whole output, from the input on."""
    if not lineage.tape.outputs:
        return []
    at, *others = lineage.tape.outputs
    for other in others:
        at = lineage.common_dominator(at, other)
    chain: list[int] = []
    while at != -1:
        chain.append(at)
        at = lineage.dominator[at]
    return chain[::-1]


def first_read(tape: Tape, value: int, first: int = 0, last: int | None = None) -> Operand | None:
    """The first read of a value among the calls `first` to `last`. None if none of them reads it."""
    stop = len(tape.calls) if last is None else last + 1
    for call in tape.calls[max(first, (tape.values[value].call or 0)) : stop]:
        for read in call.reads:
            if read.value == value:
                return Operand(value, call.number, read.path)
    return None
