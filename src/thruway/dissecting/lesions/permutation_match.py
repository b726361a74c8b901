"""Matching of branches that differ in their weights only, so that they can be swapped.

The model's own code runs, and in the place of branch i it makes the calls of branch i. If branch j makes the same
calls, then making them with the weights of j has the effect of running j there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.running.partial_plan import WeightSwaps
from thruway.dissecting.running.weights import is_recomputable
from thruway.dissecting.tracing.structure import Path
from thruway.dissecting.tracing.tape import Read, Tape

__all__ = ["Match", "interchangeable_groups", "match"]


@dataclass(frozen=True)
class Match:
    """The weight swaps that run the guest in the place of the host, or the reason why this is impossible."""

    swaps: WeightSwaps = field(default_factory=dict)
    obstacle: str = ""


def match(tape: Tape, host: Branch, guest: Branch, state_count: int) -> Match:
    """Match the calls of two branches: `guest` is to run in the place of `host`.

    Args:
        state_count: number of parameters and buffers of the model, which are the first values of the tape.
    """
    ours, theirs = _relevant_calls(tape, host, state_count), _relevant_calls(tape, guest, state_count)
    if host.kind != guest.kind or host.output_shape != guest.output_shape or host.input_shape != guest.input_shape:
        return _no(
            f"{host.name} is {host.kind} and maps {host.input_shape} to {host.output_shape}, {guest.name} is "
            f"{guest.kind} and maps {guest.input_shape} to {guest.output_shape}"
        )
    if len(ours) != len(theirs):
        return _no(f"{host.name} makes {len(ours)} calls, {guest.name} {len(theirs)}")
    places = {number: place for place, number in enumerate(ours)}, {number: at for at, number in enumerate(theirs)}
    outside: dict[int, int] = {}
    swaps: dict[int, list[tuple[Path, int]]] = {}
    for i, j in zip(ours, theirs, strict=True):
        a, b = tape.calls[i], tape.calls[j]
        if a.function != b.function or [read.path for read in a.reads] != [read.path for read in b.reads]:
            return _no(f"{tape.describe(i)} corresponds to a different call, {tape.describe(j)}")
        if not _same_settings(a.constants, b.constants):
            return _no(f"{tape.describe(i)} and {tape.describe(j)} have different settings")
        for read, counterpart in zip(a.reads, b.reads, strict=True):
            x, y = tape.values[read.value], tape.values[counterpart.value]
            if (x.call in places[0]) != (y.call in places[1]):
                return _no(f"{tape.describe(i)} and {tape.describe(j)} read values of different kinds")
            if x.call in places[0]:
                if places[0][x.call] != places[1].get(y.call or 0) or _rank(tape, x.number) != _rank(tape, y.number):
                    return _no(f"{tape.describe(i)} and {tape.describe(j)} read results of different calls")
            elif is_recomputable(tape, x.number, state_count) and is_recomputable(tape, y.number, state_count):
                if (x.shape, x.dtype) != (y.shape, y.dtype):
                    return _no(f"{tape.describe(i)} has a weight of {x.shape}, {tape.describe(j)} of {y.shape}")
                if x.number != y.number:
                    swaps.setdefault(i, []).append((read.path, y.number))
            elif outside.setdefault(x.number, y.number) != y.number:
                return _no(f"{host.name} and {guest.name} read their inputs in different ways")
    return _checked(tape, host, guest, outside, {call: tuple(places) for call, places in swaps.items()})


def _relevant_calls(tape: Tape, branch: Branch, state_count: int) -> list[int]:
    """The calls of a branch, without those that only derive weights from parameters, which are swapped where used."""

    def makes_weights(number: int) -> bool:
        values = tape.calls[number].values
        return bool(values) and all(is_recomputable(tape, value, state_count) for value in values)

    return [number for number in sorted(branch.inside) if not makes_weights(number)]


def _checked(tape: Tape, host: Branch, guest: Branch, outside: dict[int, int], swaps: WeightSwaps) -> Match:
    streams = [(x, y) for x, y in outside.items() if x != y]
    for x, y in streams:
        if tape.values[x].origin != "data":
            return _no(f"weights of {host.name} and {guest.name} are written to, or not computed from parameters")
        if tape.values[x].shape != tape.values[y].shape:
            return _no(f"{host.name} reads {tape.values[x].shape}, {guest.name} {tape.values[y].shape}")
    if len(streams) > 1:
        return _no(f"{host.name} reads {len(streams)} signals of its own, not only the stream")
    for branch in (host, guest):
        alone = set(branch.calls) | {branch.join}
        shared = [number for number in branch.inside - alone if tape.weights_of(tape.calls[number])]
        if shared:
            return _no(f"{tape.describe(min(shared))} is shared by {branch.name} and others")
    return Match(swaps)


def interchangeable_groups(tape: Tape, branches: Sequence[Branch], state_count: int) -> list[list[int]]:
    """Group the branches, by index, into sets whose members can be swapped."""
    groups: list[list[int]] = []
    for branch in branches:
        for group in groups:
            host = branches[group[0]]
            is_apart = all(_are_apart(branches[other], branch) for other in group)
            if (
                is_apart
                and not match(tape, host, branch, state_count).obstacle
                and not match(tape, branch, host, state_count).obstacle
            ):
                group.append(branch.index)
                break
        else:
            groups.append([branch.index])
    return groups


def _are_apart(a: Branch, b: Branch) -> bool:
    """Return True if neither branch contains the other."""
    return not (a.inside & b.inside)


def _rank(tape: Tape, value: int) -> int:
    """The position of a value among the results of its call."""
    call = tape.values[value].call
    return -1 if call is None else tape.calls[call].values.index(value)


def _same_settings(a: object, b: object) -> bool:
    """Return True if two sets of arguments are the same, apart from the tensors."""
    mine, other = list(_settings(a)), list(_settings(b))
    return len(mine) == len(other) and all(
        (isinstance(x, Read) and isinstance(y, Read)) or (type(x) is type(y) and (x is y or x == y))
        for x, y in zip(mine, other, strict=True)
    )


def _settings(value: object) -> Iterator[object]:
    """The leaves of a call's arguments, and the types and keys of their containers."""
    if isinstance(value, Read):
        yield value
    elif isinstance(value, (tuple, list)):
        yield type(value)
        for item in value:
            yield from _settings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _settings(item)
    else:
        yield value


def _no(reason: str) -> Match:
    return Match({}, reason)
