"""Who descends from whom on a tape, and what nobody needs any more when a join drops an operand."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from thruway.dissecting.tracing.tape import Tape

__all__ = ["Cut", "Lineage", "unneeded"]

# Values looked at in search of a common ancestor; a block is tens of values long.
_REACH = 500


class Cut(NamedTuple):
    """A join that from now on needs one value only."""

    join: int
    keep: int


def unneeded(tape: Tape, cuts: Iterable[Cut]) -> frozenset[int]:
    """The calls whose results nobody reads once these joins are cut.

    A call counts as needed if a result of its is read by a needed call or by Python, leaves the model, or
    is kept by a module. What was of no use in the intact pass either is not in the answer.
    """
    cuts = list(cuts)
    uses: dict[int, int] = {}
    waiting: list[int] = []

    def use(value: int, by: int) -> None:
        uses[value] = uses.get(value, tape.uses[value]) + by
        if uses[value] == 0:
            waiting.append(value)

    for cut in cuts:
        use(cut.keep, +1)
    for cut in cuts:
        for read in tape.calls[cut.join].reads:
            use(read.value, -1)
    gone: set[int] = set()
    joins = {cut.join for cut in cuts}
    kept = {cut.join: cut.keep for cut in cuts}
    while waiting:
        number = tape.values[waiting.pop()].call
        if number is None or number in gone:
            continue
        call = tape.calls[number]
        if any(uses.get(value, tape.uses[value]) > 0 for value in call.values):
            continue
        gone.add(number)
        if number in joins:  # its operands are let go already; now also the one that was kept
            use(kept[number], -1)
            continue
        for read in call.reads:
            use(read.value, -1)
    return frozenset(gone)


class Lineage:
    """The data of a tape, each with its immediate dominator: the nearest value all of it comes through."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.dominator: list[int] = []  # -1: more than one source, or none
        for value in tape.values:
            above = -1
            if value.parents:
                above = value.parents[0]
                for parent in value.parents[1:]:
                    above = self.common_dominator(above, parent)
            self.dominator.append(above)
        self.readers: dict[int, list[int]] = {}  # data -> the calls that read it
        for call in tape.calls:
            for read in tape.reads_data(call):
                self.readers.setdefault(read.value, []).append(call.number)

    def common_dominator(self, a: int, b: int) -> int:
        """The nearest value that everything in both comes through; -1 where there is none."""
        while a != b:
            if a > b:
                a = self.dominator[a]
            else:
                b = self.dominator[b]
        return a

    def dominates(self, link: int, value: int) -> bool:
        """Whether all of `value` is computed from `link`."""
        while value > link:
            value = self.dominator[value]
        return value == link

    def between(self, link: int, value: int) -> frozenset[int]:
        """The data that `value` is computed from after `link`, itself included."""
        found: set[int] = set()
        waiting = [value]
        while waiting:
            at = waiting.pop()
            if at > link and at not in found:
                found.add(at)
                waiting.extend(self.tape.values[at].parents)
        return frozenset(found)

    def are_related(self, a: int, b: int) -> bool:
        """Whether the two come from some value in common, not too far back."""
        colours = {a: 1, b: 2} if a != b else {a: 3}
        waiting = [-a, -b]
        heapq.heapify(waiting)
        for _ in range(_REACH):
            if not waiting:
                return False
            at = -heapq.heappop(waiting)
            colour = colours.pop(at, 0)
            if colour == 3:
                return True
            for parent in self.tape.values[at].parents:
                if parent not in colours:
                    heapq.heappush(waiting, -parent)
                colours[parent] = colours.get(parent, 0) | colour
        return False
