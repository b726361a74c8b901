"""Modules that are not needed without some branches, read off the recorded pass."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.tracing.lineage import Cut, unneeded
from thruway.dissecting.tracing.tape import Frame, Tape

__all__ = ["RemovalPlan", "plan_removal"]

_SHUT = {"sigmoid": float("-inf")}  # input for which a gate's function is 0


@dataclass(frozen=True)
class RemovalPlan:
    """Paths of the modules that change, outermost ones only.

    Attributes:
        carried: blocks that return their input without the branches.
        unneeded: modules whose results nothing needs, with the constant that takes the place of their output.
        weights: numbers of the parameters that only the removed branches use.
        repeated: modules that run several times, of which only some runs belong to the branches.
    """

    carried: tuple[str, ...]
    unneeded: dict[str, float]
    weights: frozenset[int]
    repeated: tuple[str, ...]


def plan_removal(tape: Tape, branches: Sequence[Branch], opened: Collection[str] = ()) -> RemovalPlan:
    """Return the modules that change if these branches are removed.

    Args:
        opened: paths of blocks that cannot be carried as a whole; their parts change instead.
    """
    skipped = unneeded(tape, [Cut(branch.join, branch.shortcut.value) for branch in branches])
    live = [branch for branch in branches if branch.join not in skipped]
    joins = {branch.join for branch in live}
    same = {tape.calls[b.join].values[0]: b.shortcut.value for b in live if b.shortcut.scale == 1.0}
    # With a carry gate of its own, the shortcut is x C(x), and without the branch x.
    same |= {tape.calls[b.carry.call].values[0]: b.shortcut.value for b in live if b.carry is not None}

    def origin(value: int) -> int:
        while value in same:
            value = same[value]
        return value

    def calls_of(frame: Frame) -> list[int]:
        return [n for n in range(frame.first, frame.last + 1) if not tape.calls[n].is_passthrough]

    def is_unneeded(frame: Frame) -> bool:
        return all(number in skipped for number in calls_of(frame))

    def is_carried(frame: Frame) -> bool:
        if frame.input is None or frame.output is None or origin(frame.output) != origin(frame.input):
            return False
        return all(number in skipped or number in joins for number in calls_of(frame))

    by_path: dict[str, list[Frame]] = {}
    for frame in tape.frames:
        if frame.path and calls_of(frame):
            by_path.setdefault(frame.path, []).append(frame)
    carried = {path for path, frames in by_path.items() if path not in opened and all(map(is_carried, frames))}
    gone = {path for path, frames in by_path.items() if all(map(is_unneeded, frames))} - carried
    outermost = [path for path in by_path if path in carried | gone and not _inside(path, carried | gone)]
    needed = [call for call in tape.calls if call.number not in skipped and call.number not in joins]
    used = frozenset[int]().union(*(tape.weights_of(call) for call in needed))
    left = frozenset[int]().union(*(tape.weights_of(tape.calls[n]) for n in (*skipped, *joins)))
    shut = _gate_values(tape, live)
    return RemovalPlan(
        tuple(path for path in outermost if path in carried),
        {
            path: next((shut[f.output] for f in by_path[path] if f.output in shut), 0.0)
            for path in outermost
            if path in gone
        },
        left - used,
        tuple(path for path, frames in by_path.items() if 0 < sum(map(is_unneeded, frames)) < len(frames)),
    )


def _gate_values(tape: Tape, branches: Sequence[Branch]) -> dict[int | None, float]:
    """Return the constants for which gates carry their input, by the value of the gate and of what it is made from."""
    found: dict[int | None, float] = {}
    for branch in branches:
        if branch.gate is not None:
            value = branch.gate.value
            found[value] = 1.0 if branch.gate_carries else 0.0
            number = tape.values[value].call
            call = None if number is None else tape.calls[number]
            if call is not None and call.name in _SHUT and call.reads:
                found[call.reads[0].value] = -_SHUT[call.name] if branch.gate_carries else _SHUT[call.name]
        if branch.carry is not None:
            found[branch.carry.value] = 1.0
    return found


def _inside(path: str, others: set[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in others for end in range(1, len(parts)))
