"""The graph of joins, and exact counts of the routes through it by length."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from thruway.dissecting.finding.branches import Branch, Operand
from thruway.dissecting.tracing.tape import Tape

__all__ = ["START", "Joint", "Routes", "routes_on"]

START = -1  # the beginning of all routes: the input, or the first stream

Counts = tuple[int, ...]  # element k: the number of routes through k branches


class Joint(NamedTuple):
    """A join, and the joins or the start whose outputs its two sides read directly."""

    join: int
    skip: frozenset[int]
    through: frozenset[int]


class Routes(NamedTuple):
    """All joints in the order in which they run, and the joins whose outputs the end reads."""

    joints: tuple[Joint, ...]
    ends: frozenset[int]

    def counts_at(self, without: Collection[int] = ()) -> dict[int, Counts]:
        """Count the routes that lead to the start and to the output of every join, by the branches on them.

        A join passes on P(shortcut) + t·P(branch); the coefficient of t^k counts routes through k branches.
        Branches in `without` keep their shortcut only.
        """
        counts: dict[int, Counts] = {START: (1,)}
        for joint in self.joints:
            skipped = total(counts[at] for at in joint.skip)
            through = () if joint.join in without else total(counts[at] for at in joint.through)
            counts[joint.join] = total([skipped, (0, *through) if through else ()])
        return counts

    def counts(self, without: Collection[int] = ()) -> Counts:
        """Count the routes from the start to the end by length, from 0 to the longest."""
        at = self.counts_at(without)
        return total(at[end] for end in self.ends)


def total(polynomials: Iterable[Counts]) -> Counts:
    """The sum of polynomials, coefficient by coefficient.

    >>> total([(1, 2), (), (0, 0, 5)])
    (1, 2, 5)
    """
    parts = list(polynomials)
    longest = max((len(part) for part in parts), default=0)
    return tuple(sum(part[k] for part in parts if k < len(part)) for k in range(longest))


def routes_on(tape: Tape, branches: Sequence[Branch], start: int) -> Routes:
    """Return the routes from the value `start` to the model's outputs on a tape.

    Connections that differ only within a branch count as one route.
    """
    finder = _Feeders(tape, branches, start)
    joints = [Joint(branch.index, *_sides(tape, branch, finder)) for branch in branches]
    return Routes(tuple(joints), finder.of(tape.outputs))


def _sides(tape: Tape, branch: Branch, finder: "_Feeders") -> tuple[frozenset[int], frozenset[int]]:
    skip = finder.of([branch.shortcut.value])
    if branch.branch is None:  # computed and added in one call, whose other arguments are the branch
        reads = [read.value for read in tape.reads_data(tape.calls[branch.join])]
        through = finder.of(reads)
    else:
        parts: list[Operand | None] = [branch.branch, branch.gate, branch.carry]
        through = finder.of([part.value for part in parts if part is not None])
    return (frozenset(), through) if branch.kind == "module" else (skip, through)


class _Feeders:
    """Finds the joins, or the start, that a value is computed from without another join in between."""

    def __init__(self, tape: Tape, branches: Sequence[Branch], start: int) -> None:
        self._tape = tape
        self._joins = {branch.join: branch.index for branch in branches}
        self._known: dict[int, frozenset[int]] = {start: frozenset([START])}

    def of(self, values: Collection[int]) -> frozenset[int]:
        return frozenset[int]().union(*(self._feeding(value) for value in values))

    def _feeding(self, value: int) -> frozenset[int]:
        waiting = [value]
        while waiting:  # parents first, without recursion, so that depth is not limited
            at = waiting[-1]
            if at in self._known:
                waiting.pop()
                continue
            made = self._tape.values[at]
            if made.call in self._joins:
                self._known[at] = frozenset([self._joins[made.call]])
                continue
            unknown = [parent for parent in made.parents if parent not in self._known]
            if unknown:
                waiting += unknown
            else:
                self._known[at] = frozenset[int]().union(*(self._known[parent] for parent in made.parents))
        return self._known[value]
