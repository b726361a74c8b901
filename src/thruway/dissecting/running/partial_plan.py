"""What a lesion changes in a pass, and so what of it has to be computed: the rest is as in the intact pass."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.running.full_pass import Route, route
from thruway.dissecting.running.merging import Merge, operands_of
from thruway.dissecting.tracing.structure import Path
from thruway.dissecting.tracing.tape import Call, Tape, place_of

__all__ = ["Exchanges", "Facts", "Plan", "bytes_of", "is_copied", "planned", "planned_whole"]

# By call: arguments that hold a weight, and the value to put there; see weights.remade.
Exchanges = Mapping[int, tuple[tuple[Path, int], ...]]


class Facts:
    """What all plans along one tape have in common.

    Attributes:
        born: by storage, the call that made its first tensor; -1 where it was there before.
        sizes: bytes of each storage.
        kept: values that leave the tape: Python looked at them, the caller gets them, or a module holds them.
        obstacle: why no pass can start from stored values; "" if they can.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.born: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        for value in tape.values:
            self.born.setdefault(value.storage, -1 if value.call is None else value.call)
            size = math.prod(value.shape) * value.dtype.itemsize
            self.sizes[value.storage] = max(self.sizes.get(value.storage, 0), size)
        reads = Counter(read.value for call in tape.calls for read in call.reads)
        self.kept = [n for n, uses in tape.uses.items() if uses > reads[n] and tape.values[n].call is not None]
        self.obstacle = ""
        if tape.draws:
            self.obstacle = "the model draws random numbers, and would draw other ones"
        elif tape.writes_state:
            self.obstacle = "the model writes to its buffers"
        elif any(value.call is None and value.parents for value in tape.values):
            self.obstacle = "a tensor was made where no call was seen"


@dataclass(frozen=True)
class Plan:
    """One lesioned pass along a tape.

    Attributes:
        way: joins changed, and calls that nobody needs without them.
        exchanges: weights that take another's place.
        computed: the calls that run; the results of all others are not looked at, or come from the store.
        untouched: of those others, the ones whose arguments do not matter either.
        needed: values of the intact pass that are read: the store.
        patched: by computed call, arguments that the model's code holds as tensors which were written to.
        fresh: values of the store that this pass writes to: it gets copies.
        last: after this call everything is computed, and nothing has to be looked after.
        obstacle: why the pass cannot start from stored values; "" if it can.
    """

    way: Route
    exchanges: Exchanges
    computed: frozenset[int]
    untouched: frozenset[int]
    needed: frozenset[int]
    patched: Mapping[int, tuple[tuple[Path, int], ...]]
    fresh: frozenset[int]
    last: int
    obstacle: str = ""


def planned_whole(tape: Tape, merges: Sequence[tuple[Branch, Merge | None]], exchanges: Exchanges) -> Plan:
    """A lesioned pass that computes everything but what nobody needs."""
    way = route(tape, merges)
    computed = frozenset(range(len(tape.calls))) - way.skipped
    last = max(way.last, max(exchanges, default=-1))
    return Plan(way, exchanges, computed, frozenset(), frozenset(), {}, frozenset(), last)


def planned(facts: Facts, merges: Sequence[tuple[Branch, Merge | None]], exchanges: Exchanges) -> Plan:
    """A lesioned pass that computes only what comes of the joins and weights that were changed."""
    tape = facts.tape
    way = route(tape, merges)
    computed, changed = _consequences(tape, way, exchanges)
    operands = {join: operands_of(branch, merge) for join, (branch, merge) in way.merges.items()}
    needed: set[int] = set()
    patched: dict[int, list[tuple[Path, int]]] = {}
    for number in computed:
        call = tape.calls[number]
        if number not in way.merges or _recomputes(*way.merges[number]):
            for read in call.reads:
                value = tape.values[read.value]
                if value.call is None:
                    continue
                if read.value not in changed:
                    needed.add(read.value)
                if _is_written(tape, read.value) and facts.born[value.storage] not in computed:
                    patched.setdefault(number, []).append((read.path, read.value))
        for operand in operands.get(number, ()):
            if operand.value not in changed and tape.values[operand.value].call is not None:
                needed.add(operand.value)
    needed |= {value for value in facts.kept if value not in changed and tape.values[value].call not in way.skipped}
    written = {storage for storage, writers in tape.written.items() if any(number in computed for number in writers)}
    rest = [number for number in range(len(tape.calls)) if number not in computed]
    follows = any(tape.calls[number].writes for number in way.merges) or bool(patched)
    return Plan(
        way,
        exchanges,
        frozenset(computed),
        frozenset(number for number in rest if number not in way.catches and not tape.calls[number].passes),
        frozenset(needed),
        {number: tuple(places) for number, places in patched.items()},
        frozenset(value for value in needed if tape.values[value].storage in written),
        len(tape.calls) - 1 if follows else max(way.last, max(rest, default=-1), max(exchanges, default=-1)),
        facts.obstacle or _obstacle(facts, way, computed, changed, needed),
    )


def bytes_of(facts: Facts, needed: Iterable[int]) -> int:
    """Memory that storing these values takes: views of one tensor keep it alive once."""
    total = 0
    shared: dict[int, int] = {}
    tape = facts.tape
    for number in needed:
        value = tape.values[number]
        if is_copied(tape, number):
            total += math.prod(value.shape) * value.dtype.itemsize
        else:
            shared[value.storage] = facts.sizes[value.storage]
    return total + sum(shared.values())


def is_copied(tape: Tape, number: int) -> bool:
    """Whether someone writes to a value later on in the intact pass: to keep it, one has to copy it."""
    value = tape.values[number]
    made = -1 if value.call is None else value.call
    return any(writer > made for writer in tape.written.get(value.storage, ()))


def _consequences(tape: Tape, way: Route, exchanges: Exchanges) -> tuple[set[int], set[int]]:
    """The calls whose results are other ones, and these results."""
    computed: set[int] = set()
    changed: set[int] = set()
    for call in tape.calls:
        if call.passes or call.number in way.skipped:
            continue
        starts = call.number in way.merges or call.number in exchanges
        if starts or any(read.value in changed for read in call.reads):
            computed.add(call.number)
            changed.update(call.values)
    return computed, changed


def _recomputes(branch: Branch, merge: Merge | None) -> bool:
    """Whether the join's own function is called: it computes the branch too."""
    return merge is not None and branch.branch is None


def _is_written(tape: Tape, number: int) -> bool:
    """Whether a value came about by writing to a tensor that was there."""
    call = tape.values[number].call
    return call is not None and place_of(tape.calls[call].result, number) is None


def _obstacle(facts: Facts, way: Route, computed: set[int], changed: set[int], needed: set[int]) -> str:
    tape = facts.tape
    for number in needed:
        call = tape.calls[tape.values[number].call or 0]
        if _is_written(tape, number) and number != call.values[0]:
            return f"{tape.describe(call.number)} writes to a view of what is read later"
    if any(number in needed and _is_written(tape, number) for number in facts.kept):
        return "a tensor that was written to leaves the model"
    for storage_writers in tape.written.values():
        for number in storage_writers:
            if _is_tangled(facts, tape.calls[number], way, computed, changed):
                return f"{tape.describe(number)} writes to memory that computed and stored tensors share"
    return ""


def _is_tangled(facts: Facts, call: Call, way: Route, computed: set[int], changed: set[int]) -> bool:
    """Whether a write is seen through tensors of which some are computed and others are not."""
    values = facts.tape.values
    if call.number in way.skipped:
        return False
    if call.number in computed:
        is_new = all(facts.born[values[value].storage] in computed for value in call.values)
        return not is_new and any(facts.tape.uses[value] for value in call.values[1:])
    return any(parent in changed for value in call.values for parent in values[value].parents)
