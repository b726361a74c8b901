"""Plans of partial passes: which calls a lesion changes, and which values of the intact pass they read."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.running.full_pass import FullPlan, plan_full
from thruway.dissecting.running.merging import Merge, operands_of
from thruway.dissecting.tracing.structure import Path
from thruway.dissecting.tracing.tape import Call, Tape, path_of_value

__all__ = [
    "PartialPlan",
    "TapeFacts",
    "WeightSwaps",
    "bytes_of",
    "is_overwritten_later",
    "plan_all_calls",
    "plan_partial",
]

# By call: paths of weights among its arguments, and the values to put there; see `weights.recomputed`.
WeightSwaps = Mapping[int, tuple[tuple[Path, int], ...]]


class TapeFacts:
    """Properties of a tape that all plans along it share.

    Attributes:
        created_by: for each storage, the call that made its first tensor; -1 if it existed before the pass.
        sizes: size of each storage in bytes.
        escaping: values that are used outside the tape: read by Python, returned to the caller, or stored in a module.
        obstacle: reason why no pass can start from stored values; "" if passes can.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.created_by: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        for value in tape.values:
            self.created_by.setdefault(value.storage, -1 if value.call is None else value.call)
            size = math.prod(value.shape) * value.dtype.itemsize
            self.sizes[value.storage] = max(self.sizes.get(value.storage, 0), size)
        reads = Counter(read.value for call in tape.calls for read in call.reads)
        self.escaping = [n for n, uses in tape.uses.items() if uses > reads[n] and tape.values[n].call is not None]
        self.obstacle = ""
        if tape.draws_random:
            self.obstacle = "the model draws random numbers, which would be different ones"
        elif tape.writes_state:
            self.obstacle = "the model writes to its buffers"
        elif any(value.call is None and value.parents for value in tape.values):
            self.obstacle = "a tensor was made by a call that is not on the tape"


@dataclass(frozen=True)
class PartialPlan:
    """One lesioned pass along a tape.

    Attributes:
        full: the changed joins, and the calls that become unneeded.
        swaps: weights that replace others.
        computed: calls that are made.
        bypassed: calls that are not made and whose arguments are not needed either.
        needed: values of the intact pass that are read, to be stored.
        patched: for each computed call, arguments that the model's code may hold as placeholders, because they were
            written to in place by calls that are not made.
        overwritten: stored values that this pass writes to, on copies of them.
        last: number of the call after which every call is made and none is changed.
        obstacle: reason why the pass cannot start from stored values; "" if it can.
    """

    full: FullPlan
    swaps: WeightSwaps
    computed: frozenset[int]
    bypassed: frozenset[int]
    needed: frozenset[int]
    patched: Mapping[int, tuple[tuple[Path, int], ...]]
    overwritten: frozenset[int]
    last: int
    obstacle: str = ""


def plan_all_calls(tape: Tape, merges: Sequence[tuple[Branch, Merge | None]], swaps: WeightSwaps) -> PartialPlan:
    """Plan a lesioned pass that starts at the input and makes every call that is needed."""
    full = plan_full(tape, merges)
    computed = frozenset(range(len(tape.calls))) - full.skipped
    last = max(full.last, max(swaps, default=-1))
    return PartialPlan(full, swaps, computed, frozenset(), frozenset(), {}, frozenset(), last)


def plan_partial(facts: TapeFacts, merges: Sequence[tuple[Branch, Merge | None]], swaps: WeightSwaps) -> PartialPlan:
    """Plan a lesioned pass that computes only the calls that depend on the changed joins and weights."""
    tape = facts.tape
    full = plan_full(tape, merges)
    computed, changed = _consequences(tape, full, swaps)
    operands = {join: operands_of(branch, merge) for join, (branch, merge) in full.merges.items()}
    needed: set[int] = set()
    patched: dict[int, list[tuple[Path, int]]] = {}
    for number in computed:
        call = tape.calls[number]
        if number not in full.merges or _recomputes(*full.merges[number]):
            for read in call.reads:
                value = tape.values[read.value]
                if value.call is None:
                    continue
                if read.value not in changed:
                    needed.add(read.value)
                if _is_written(tape, read.value) and facts.created_by[value.storage] not in computed:
                    patched.setdefault(number, []).append((read.path, read.value))
        for operand in operands.get(number, ()):
            if operand.value not in changed and tape.values[operand.value].call is not None:
                needed.add(operand.value)
    needed |= {
        value for value in facts.escaping if value not in changed and tape.values[value].call not in full.skipped
    }
    written = {storage for storage, writers in tape.written.items() if any(number in computed for number in writers)}
    rest = [number for number in range(len(tape.calls)) if number not in computed]
    follows = any(tape.calls[number].writes for number in full.merges) or bool(patched)
    return PartialPlan(
        full,
        swaps,
        frozenset(computed),
        frozenset(number for number in rest if number not in full.captures and not tape.calls[number].is_passthrough),
        frozenset(needed),
        {number: tuple(places) for number, places in patched.items()},
        frozenset(value for value in needed if tape.values[value].storage in written),
        len(tape.calls) - 1 if follows else max(full.last, max(rest, default=-1), max(swaps, default=-1)),
        facts.obstacle or _obstacle(facts, full, computed, changed, needed),
    )


def bytes_of(facts: TapeFacts, needed: Iterable[int]) -> int:
    """Return the number of bytes needed to store these values. Views of one tensor count once."""
    total = 0
    shared: dict[int, int] = {}
    tape = facts.tape
    for number in needed:
        value = tape.values[number]
        if is_overwritten_later(tape, number):
            total += math.prod(value.shape) * value.dtype.itemsize
        else:
            shared[value.storage] = facts.sizes[value.storage]
    return total + sum(shared.values())


def is_overwritten_later(tape: Tape, number: int) -> bool:
    """Return True if a value is overwritten later in the intact pass, so that it must be copied to be stored."""
    value = tape.values[number]
    made = -1 if value.call is None else value.call
    return any(writer > made for writer in tape.written.get(value.storage, ()))


def _consequences(tape: Tape, full: FullPlan, swaps: WeightSwaps) -> tuple[set[int], set[int]]:
    """The calls whose results change, and the values they make."""
    computed: set[int] = set()
    changed: set[int] = set()
    for call in tape.calls:
        if call.is_passthrough or call.number in full.skipped:
            continue
        starts = call.number in full.merges or call.number in swaps
        if starts or any(read.value in changed for read in call.reads):
            computed.add(call.number)
            changed.update(call.values)
    return computed, changed


def _recomputes(branch: Branch, merge: Merge | None) -> bool:
    """Return True if the recorded call of the join is made, which computes the branch too."""
    return merge is not None and branch.branch is None


def _is_written(tape: Tape, number: int) -> bool:
    """Return True if a value was made by writing to an existing tensor."""
    call = tape.values[number].call
    return call is not None and path_of_value(tape.calls[call].result, number) is None


def _obstacle(facts: TapeFacts, full: FullPlan, computed: set[int], changed: set[int], needed: set[int]) -> str:
    tape = facts.tape
    for number in needed:
        call = tape.calls[tape.values[number].call or 0]
        if _is_written(tape, number) and number != call.values[0]:
            return f"{tape.describe(call.number)} writes to a view of what is read later"
    if any(number in needed and _is_written(tape, number) for number in facts.escaping):
        return "a tensor that was written to leaves the model"
    for storage_writers in tape.written.values():
        for number in storage_writers:
            if _is_tangled(facts, tape.calls[number], full, computed, changed):
                return f"{tape.describe(number)} writes to memory that computed and stored tensors share"
    return ""


def _is_tangled(facts: TapeFacts, call: Call, full: FullPlan, computed: set[int], changed: set[int]) -> bool:
    """Return True if a write affects tensors of which some are computed and others are not."""
    values = facts.tape.values
    if call.number in full.skipped:
        return False
    if call.number in computed:
        is_new = all(facts.created_by[values[value].storage] in computed for value in call.values)
        return not is_new and any(facts.tape.uses[value] for value in call.values[1:])
    return any(parent in changed for value in call.values for parent in values[value].parents)
