"""Ancestry of the values on a tape, and the calls that become unneeded when a join drops an operand."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from thruway.dissecting.tracing.tape import Tape

__all__ = ["Cut", "Lineage", "unneeded"]

# Number of values searched for a common ancestor. A block is tens of values long.
_REACH = 500


class Cut(NamedTuple):
    """A join that is reduced to one of its operands.

    Attributes:
        join: number of the call.
        keep: the operand that it still needs.
    """

    join: int
    keep: int


def unneeded(tape: Tape, cuts: Iterable[Cut]) -> frozenset[int]:
    """Return the calls that become unneeded once these joins are cut.

    A call is needed if one of its results is read by a needed call or by Python, leaves the model, or is kept by a
    module. Calls that were unneeded in the intact pass already are not returned.
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
        if number in joins:  # the other operands were released above
            use(kept[number], -1)
            continue
        for read in call.reads:
            use(read.value, -1)
    return frozenset(gone)


class Lineage:
    """The dominator tree of the data on a tape.

    A value dominates another if the other is computed from it alone: every path from the inputs leads through it.

    Attributes:
        dominator: immediate dominator of each value; -1 for a value without one.
        readers: the calls that read each value.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.dominator: list[int] = []
        for value in tape.values:
            dominator = -1
            if value.parents:
                dominator = value.parents[0]
                for parent in value.parents[1:]:
                    dominator = self.common_dominator(dominator, parent)
            self.dominator.append(dominator)
        self.readers: dict[int, list[int]] = {}
        for call in tape.calls:
            for read in tape.reads_data(call):
                self.readers.setdefault(read.value, []).append(call.number)

    def common_dominator(self, a: int, b: int) -> int:
        """Return the nearest value that dominates both; -1 if there is none."""
        while a != b:
            if a > b:
                a = self.dominator[a]
            else:
                b = self.dominator[b]
        return a

    def dominates(self, link: int, value: int) -> bool:
        """Return True if `value` is `link`, or is computed from `link` alone."""
        while value > link:
            value = self.dominator[value]
        return value == link

    def between(self, link: int, value: int) -> frozenset[int]:
        """Return the data from which `value` is computed and which came after `link`, including `value`."""
        found: set[int] = set()
        waiting = [value]
        while waiting:
            at = waiting.pop()
            if at > link and at not in found:
                found.add(at)
                waiting.extend(self.tape.values[at].parents)
        return frozenset(found)

    def are_related(self, a: int, b: int) -> bool:
        """Return True if the two have a common ancestor within the last `_REACH` values."""
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
