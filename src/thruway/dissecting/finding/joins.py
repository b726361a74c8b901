"""Recognition of joins: additions and blends of a branch with its shortcut."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from thruway.dissecting.finding.branches import Kind, Operand
from thruway.dissecting.finding.gates import Blend, blend_of, is_only_weighted, only_opens_gates
from thruway.dissecting.finding.shortcuts import Link, links, role_of
from thruway.dissecting.tracing.functions import ADDS, FUSED_ADDS, PRODUCTS, SPECTRA, SUBTRACTIONS
from thruway.dissecting.tracing.lineage import Cut, Lineage, unneeded
from thruway.dissecting.tracing.tape import Call, Read, Tape

__all__ = ["FoundJoin", "branch_inputs", "classify", "joins_in"]

_NO_WEIGHTS = "no parameters lie between the two operands"
_BOTH_MAPPED = "both operands are maps of one signal, so neither is a shortcut"
_UNRELATED = "neither operand is an input of the other: both are parts of one branch, or of none"


@dataclass(frozen=True, slots=True)
class FoundJoin:
    """A join and its operands; see `Branch` for the fields not listed.

    Attributes:
        link: the value that shortcut and branch both come from.
        end: the last value of the branch.
        calls: the calls that only the branch needs.
        cost: cost of the shortcut; see `Link.cost`.
    """

    kind: Kind
    join: int
    shortcut: Operand
    branch: Operand | None
    gate: Operand | None
    gate_carries: bool
    carry: Operand | None
    link: int
    end: int
    calls: frozenset[int]
    cost: tuple[int, int, int] = (0, 0, 0)


class _Candidate(NamedTuple):
    """An assignment of the operands of a call to shortcut, branch and gates, to be checked."""

    shortcut: Operand
    branch: Operand | None
    ends: tuple[int, ...]
    gate: Operand | None = None
    gate_carries: bool = False
    carry: Operand | None = None
    is_gated: bool = False


def joins_in(lineage: Lineage) -> tuple[list[FoundJoin], list[tuple[int, str]]]:
    """Return all joins on a tape, and the rejected calls with the reason."""
    found: list[FoundJoin] = []
    refused: list[tuple[int, str]] = []
    shortcuts: dict[int, int] = {}
    for call in lineage.tape.calls:
        verdict = classify(lineage, shortcuts, call)
        if isinstance(verdict, FoundJoin):
            found.append(verdict)
            shortcuts[call.number] = verdict.shortcut.value
        elif verdict is not None:
            refused.append((call.number, verdict))
    return found, refused


def classify(lineage: Lineage, joins: Mapping[int, int], call: Call) -> FoundJoin | str | None:
    """Return the join at this call, the reason for rejecting it, or None if the call is not a candidate."""
    tape = lineage.tape
    if not call.values or len(tape.values[call.values[0]].shape) == 0:
        return None
    blend = blend_of(tape, call)
    reasons: list[str] = []
    for candidates in (_blended(blend), _added(tape, call)):
        verdicts = [_check(lineage, joins, call, candidate) for candidate in candidates]
        fits = sorted((v for v in verdicts if isinstance(v, FoundJoin)), key=lambda found: found.cost)
        if len(fits) > 1 and fits[0].cost == fits[1].cost:
            return "either operand could be the shortcut"
        if fits:
            return fits[0]
        reasons += [verdict for verdict in verdicts if isinstance(verdict, str)]
    return max(reasons, key=_weight) if reasons else None


def _weight(reason: str) -> int:
    """Return the priority of a reason: the one with the highest is reported."""
    return 1 if reason == _UNRELATED else 2


def _blended(blend: Blend | None) -> Iterator[_Candidate]:
    if blend is None:
        return
    first, second = blend.first, blend.second
    gate, other = blend.gate, blend.other_gate
    yield _Candidate(first, second, (second.value,), gate, False, other, is_gated=True)
    if gate is None and other is not None:
        return  # the operand with the only gate is the shortcut: a gate on the branch alone is part of the branch
    yield _Candidate(
        second, first, (first.value,), other or gate, other is None, gate if other else None, is_gated=True
    )


def _added(tape: Tape, call: Call) -> Iterator[_Candidate]:
    data = tape.reads_data(call)
    if call.name in FUSED_ADDS:
        yield from _added_fused(call, data)
    if call.name not in ADDS | SUBTRACTIONS or len(data) != 2 or data[0].value == data[1].value:
        return
    a, b = (_operand(call, read) for read in data)
    yield _Candidate(a, b, (b.value,))
    if call.name in ADDS:
        yield _Candidate(b, a, (a.value,))


def _added_fused(call: Call, data: list[Read]) -> Iterator[_Candidate]:
    """shortcut + product, in one call: only the summand can be the shortcut."""
    base = [read for read in data if read.path in ((0,), ("input",))]
    factors = [read for read in data if read not in base]
    if base and factors and call.constants[1].get("beta", 1) == 1:
        yield _Candidate(_operand(call, base[0]), None, tuple(read.value for read in factors))


def _operand(call: Call, read: Read) -> Operand:
    alpha = call.constants[1].get("alpha", 1)
    is_scaled = read.path in ((1,), ("other",)) and isinstance(alpha, (int, float))
    sign = -1 if call.name in SUBTRACTIONS and read.path in ((1,), ("other",)) else 1
    return Operand(read.value, call.number, read.path, sign * float(alpha) if is_scaled else 1.0)


def _check(lineage: Lineage, joins: Mapping[int, int], call: Call, candidate: _Candidate) -> FoundJoin | str | None:
    tape = lineage.tape
    x, y = tape.values[candidate.shortcut.value], tape.values[call.values[0]]
    if x.origin != "data" or not all(tape.values[end].origin == "data" for end in candidate.ends):
        return None
    sizes = {x.shape, y.shape} | (
        {tape.values[candidate.branch.value].shape} if candidate.branch is not None else set()
    )
    if len(sizes) > 1:
        related = any(lineage.are_related(x.number, end) for end in candidate.ends)
        is_add = call.name not in SUBTRACTIONS  # subtracting a mean is not a near miss
        return "the operands differ in shape: a bias, a mask or a mean" if related and is_add else None
    calls = unneeded(tape, [Cut(call.number, x.number)])
    edge = branch_inputs(tape, candidate.ends, calls)
    link = _nearest(lineage, links(tape, joins, x.number), edge)
    if link is None:
        return _UNRELATED if any(lineage.are_related(x.number, end) for end in candidate.ends) else None
    if not link.is_identity and not candidate.is_gated and _is_modulation(lineage, link, candidate):
        return "a scale and a shift that are computed from another signal, as in FiLM and AdaLN"
    end = max(candidate.ends)
    carry_alone = candidate.carry if candidate.gate is None else None
    if carry_alone is not None and (link.linear or not lineage.dominates(link.value, carry_alone.value)):
        return None  # a map, or a signal weighted by a gate that depends on another signal
    reason = _reason_against(lineage, call, link, candidate, edge)
    if reason is not None:
        return reason
    if call.name in SUBTRACTIONS and (not link.is_identity or is_only_weighted(lineage, call.values[0])):
        return None  # a difference of two maps, or one that is weighted by a gate
    kind: Kind = "gated" if candidate.is_gated else "identity" if link.is_identity else "projection"
    return FoundJoin(
        kind,
        call.number,
        candidate.shortcut,
        candidate.branch,
        candidate.gate,
        candidate.gate_carries,
        candidate.carry,
        link.value,
        call.values[0] if candidate.is_gated or candidate.branch is None else end,
        calls,
        link.cost,
    )


def _is_modulation(lineage: Lineage, link: Link, candidate: _Candidate) -> bool:
    """Return True for u * scale(c) + shift(c), with shift(c) taken for the shortcut and u from elsewhere."""
    tape = lineage.tape
    factors: Sequence[int] = candidate.ends
    if candidate.branch is not None:
        number = tape.values[candidate.branch.value].call
        if number is None or tape.calls[number].name not in PRODUCTS:
            return False
        factors = [read.value for read in tape.reads_data(tape.calls[number])]
    made_alone = [lineage.dominates(link.value, factor) for factor in factors]
    return any(made_alone) and not all(made_alone)


def branch_inputs(tape: Tape, ends: tuple[int, ...], calls: frozenset[int]) -> set[int]:
    """The data that a branch reads: inputs of the calls that only it needs."""
    edge, seen, waiting = set[int](), set[int](), list(ends)
    while waiting:
        at = waiting.pop()
        value = tape.values[at]
        if value.call is None or value.call not in calls:
            edge.add(at)
            continue
        for parent in value.parents:
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return edge


def _nearest(lineage: Lineage, candidates: Iterator[Link], edge: set[int]) -> Link | None:
    """The first candidate that dominates some input of the branch."""
    places = list(edge)
    for link in candidates:
        for index, place in enumerate(places):
            while place > link.value:
                place = lineage.dominator[place]
            places[index] = place
            if place == link.value:
                return link
        if all(place == -1 for place in places):
            return None
    return None


def _reason_against(lineage: Lineage, call: Call, link: Link, candidate: _Candidate, edge: set[int]) -> str | None:
    tape = lineage.tape
    inside = {
        number
        for end in candidate.ends
        for value in lineage.between(link.value, end)
        if (number := tape.values[value].call) is not None
    }
    if candidate.branch is None:
        inside.add(call.number)
    weighted = {role_of(tape, tape.calls[number]) for number in inside if tape.weights_of(tape.calls[number])}
    mixes = any(tape.calls[number].name in SPECTRA for number in inside)
    if not weighted and not mixes:
        return _NO_WEIGHTS
    if not mixes and weighted <= {"transparent", "piece", "scale"}:
        return "its parameters only scale and shift: a norm written by hand, or a mix of positions"
    roles = {role_of(tape, tape.calls[number]) for number in inside}
    if link.linear and not {"linear", "other"} <= roles:
        return _BOTH_MAPPED
    if link.linear and only_opens_gates(lineage, call.values[0]):
        return "its output is only used as a gate on another signal"
    is_coupling = link.linear == link.other == 0 and all(lineage.dominates(link.value, end) for end in candidate.ends)
    if (
        link.pieces
        and not is_coupling
        and any(
            role_of(tape, tape.calls[number]) == "piece" and read.value == link.value
            for number in inside
            for read in tape.calls[number].reads
        )
    ):
        return "the operands are different pieces of one signal"
    return None
