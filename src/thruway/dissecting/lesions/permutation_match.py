"""Whether two branches do the same with other weights, so that one can stand in the other's place.

The model's own code goes on running. At the place of branch i it makes the calls of branch i, and where those of
branch j are the same calls, giving them the weights of j is running j there, exactly.
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
    """The weights of the guest for the calls of the host; or why there are none."""

    swaps: WeightSwaps = field(default_factory=dict)
    obstacle: str = ""


def match(tape: Tape, host: Branch, guest: Branch, held: int) -> Match:
    """What to exchange so that `guest` runs where `host` stands.

    Args:
        held: how many parameters and buffers the model has: the first values of the tape.
    """
    ours, theirs = _working(tape, host, held), _working(tape, guest, held)
    if host.kind != guest.kind or host.output_shape != guest.output_shape or host.input_shape != guest.input_shape:
        return _no(
            f"{host.name} is {host.kind} and makes {host.output_shape} of {host.input_shape}, {guest.name} is "
            f"{guest.kind} and makes {guest.output_shape} of {guest.input_shape}"
        )
    if len(ours) != len(theirs):
        return _no(f"{host.name} makes {len(ours)} calls, {guest.name} {len(theirs)}")
    places = {number: place for place, number in enumerate(ours)}, {number: at for at, number in enumerate(theirs)}
    outside: dict[int, int] = {}
    swaps: dict[int, list[tuple[Path, int]]] = {}
    for mine, other in zip(ours, theirs, strict=True):
        a, b = tape.calls[mine], tape.calls[other]
        if a.function != b.function or [read.path for read in a.reads] != [read.path for read in b.reads]:
            return _no(f"{tape.describe(mine)} has no counterpart: {tape.describe(other)} stands there")
        if not _alike(a.constants, b.constants):
            return _no(f"{tape.describe(mine)} and {tape.describe(other)} have different settings")
        for read, counterpart in zip(a.reads, b.reads, strict=True):
            x, y = tape.values[read.value], tape.values[counterpart.value]
            if (x.call in places[0]) != (y.call in places[1]):
                return _no(f"{tape.describe(mine)} and {tape.describe(other)} read values of different kinds")
            if x.call in places[0]:
                if places[0][x.call] != places[1].get(y.call or 0) or _rank(tape, x.number) != _rank(tape, y.number):
                    return _no(f"{tape.describe(mine)} and {tape.describe(other)} read results of different calls")
            elif is_recomputable(tape, x.number, held) and is_recomputable(tape, y.number, held):
                if (x.shape, x.dtype) != (y.shape, y.dtype):
                    return _no(f"{tape.describe(mine)} has a weight of {x.shape}, {tape.describe(other)} of {y.shape}")
                if x.number != y.number:
                    swaps.setdefault(mine, []).append((read.path, y.number))
            elif outside.setdefault(x.number, y.number) != y.number:
                return _no(f"{host.name} and {guest.name} read what came before in different ways")
    return _checked(tape, host, guest, outside, {call: tuple(places) for call, places in swaps.items()})


def _working(tape: Tape, branch: Branch, held: int) -> list[int]:
    """Its calls, without those that only turn parameters into weights: these are exchanged where they are used."""

    def makes_weights(number: int) -> bool:
        values = tape.calls[number].values
        return bool(values) and all(is_recomputable(tape, value, held) for value in values)

    return [number for number in sorted(branch.inside) if not makes_weights(number)]


def _checked(tape: Tape, host: Branch, guest: Branch, outside: dict[int, int], swaps: WeightSwaps) -> Match:
    streams = [(x, y) for x, y in outside.items() if x != y]
    for x, y in streams:
        if tape.values[x].origin != "data":
            return _no(f"weights of {host.name} and {guest.name} are not made of parameters alone, or are written to")
        if tape.values[x].shape != tape.values[y].shape:
            return _no(f"{host.name} reads {tape.values[x].shape}, {guest.name} {tape.values[y].shape}")
    if len(streams) > 1:
        return _no(f"{host.name} reads {len(streams)} signals of its place, of which none is the stream alone")
    for branch in (host, guest):
        alone = set(branch.calls) | {branch.join}
        shared = [number for number in branch.inside - alone if tape.weights_of(tape.calls[number])]
        if shared:
            return _no(f"{tape.describe(min(shared))} serves {branch.name} and others too")
    return Match(swaps)


def interchangeable_groups(tape: Tape, branches: Sequence[Branch], held: int) -> list[list[int]]:
    """The branches that can stand in each other's places, by index; each in one group."""
    groups: list[list[int]] = []
    for branch in branches:
        for group in groups:
            host = branches[group[0]]
            is_apart = all(_are_apart(branches[other], branch) for other in group)
            if (
                is_apart
                and not match(tape, host, branch, held).obstacle
                and not match(tape, branch, host, held).obstacle
            ):
                group.append(branch.index)
                break
        else:
            groups.append([branch.index])
    return groups


def _are_apart(a: Branch, b: Branch) -> bool:
    """Neither lies within the other."""
    return not (a.inside & b.inside)


def _rank(tape: Tape, value: int) -> int:
    """Which of its call's results a value is."""
    call = tape.values[value].call
    return -1 if call is None else tape.calls[call].values.index(value)


def _alike(a: object, b: object) -> bool:
    """The same settings; any two tensors are alike here."""
    mine, other = list(_settings(a)), list(_settings(b))
    return len(mine) == len(other) and all(
        (isinstance(x, Read) and isinstance(y, Read)) or (type(x) is type(y) and (x is y or x == y))
        for x, y in zip(mine, other, strict=True)
    )


def _settings(value: object) -> Iterator[object]:
    """The leaves of a call's arguments, and what holds them."""
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
