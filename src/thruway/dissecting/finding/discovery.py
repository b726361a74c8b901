"""Finding the branches of a model on the tape of one pass."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from thruway.dissecting.finding.branches import Branch, Operand, Refusal, unique
from thruway.dissecting.finding.chains import layers_of
from thruway.dissecting.finding.declared import check_paths, declared_in, is_within
from thruway.dissecting.finding.joins import FoundJoin, joins_in
from thruway.dissecting.finding.shortcuts import MAPS, role_of
from thruway.dissecting.tracing.lineage import Lineage
from thruway.dissecting.tracing.parameters import count_parameters
from thruway.dissecting.tracing.tape import Tape

__all__ = ["Discovery", "discover"]


@dataclass(frozen=True)
class Discovery:
    """The branches of one pass, in the order of their joins, and what was refused."""

    branches: tuple[Branch, ...]
    refused: tuple[Refusal, ...]


def discover(tape: Tape, declare: Iterable[str] = (), ignore: Iterable[str] = ()) -> Discovery:
    """The residual branches and gated blends on a tape; of a net without any, its layers one by one.

    Args:
        tape: one pass of the model.
        declare: paths of modules whose output minus input is a branch, whatever is inside.
        ignore: paths of modules in which nothing is a branch, or names of branches.
    Raises:
        ConfigError: for a path that is no module of the model, or did not run.
        DissectError: if a declared module changes the shape, or does not use its input.
    """
    lineage = Lineage(tape)
    found, refused = joins_in(lineage)
    declared = declared_in(lineage, declare)
    taken = {each.join for each in declared}
    found = [*(each for each in found if each.join not in taken), *declared]
    if not found:
        found, refused_layers = layers_of(lineage)
        refused += refused_layers
    branches = _branches(lineage, sorted(found, key=lambda each: each.join))
    refusals = [Refusal(number, _name_of_call(tape, number), reason) for number, reason in refused]
    ignore = list(ignore)
    check_paths(tape, ignore, [branch.name for branch in branches])
    left_out = [b for b in branches if any(b.name == path or is_within(tape, b.join, path) for path in ignore)]
    refusals += [Refusal(branch.join, branch.name, "ignored, as asked") for branch in left_out]
    kept = [branch for branch in branches if branch not in left_out]
    return Discovery(_related(lineage, kept), tuple(sorted(refusals, key=lambda refusal: refusal.call)))


def _branches(lineage: Lineage, found: Sequence[FoundJoin]) -> list[Branch]:
    """What was found, measured and named; relations among branches come later."""
    insides = [_inside(lineage, each) for each in found]
    holders = [_holder(lineage.tape, each, inside) for each, inside in zip(found, insides, strict=True)]
    firsts = [path or "the whole model" for path, _ in holders]
    names = unique(firsts, [second or first for first, (_, second) in zip(firsts, holders, strict=True)])
    return [
        _branch(lineage.tape, index, name, each, inside)
        for index, (name, each, inside) in enumerate(zip(names, found, insides, strict=True))
    ]


def _branch(tape: Tape, index: int, name: str, found: FoundJoin, inside: frozenset[int]) -> Branch:
    join = tape.calls[found.join]
    return Branch(
        index=index,
        name=name,
        kind=found.kind,
        join=found.join,
        shortcut=replace(found.shortcut, copied=_is_in_danger(tape, found)),
        branch=_safe(tape, found.join, found.branch),
        gate=_safe(tape, found.join, found.gate),
        gate_carries=found.gate_carries,
        carry=_safe(tape, found.join, found.carry),
        calls=tuple(sorted(found.calls)),
        start=min(inside),
        inside=inside,
        input_shape=tape.values[found.link].shape,
        output_shape=tape.values[join.values[0]].shape,
        parameters=count_parameters(tape, inside),
        flops=sum(tape.calls[number].flops for number in inside),
        source=found.link,
        parent=None,
    )


def _inside(lineage: Lineage, found: FoundJoin) -> frozenset[int]:
    """The calls between what the branch reads and where it ends, and those that only serve them."""
    tape = lineage.tape
    after = {found.link}
    for value in sorted(lineage.between(found.link, found.end)):
        if any(parent in after for parent in tape.values[value].parents):
            after.add(value)
    calls = {tape.values[value].call for value in after - {found.link}}
    is_last = found.kind == "module" or found.branch is None
    inside = {number for number in calls if number is not None} | found.calls
    return frozenset(inside if is_last else inside - {found.join})


def _holder(tape: Tape, found: FoundJoin, inside: frozenset[int]) -> tuple[str, str]:
    """The innermost module that holds branch and join, and of its children the one with most of the parameters."""
    if found.kind == "module":
        maps = [n for n in inside if tape.weights_of(tape.calls[n]) and role_of(tape, tape.calls[n]) in MAPS]
        return _innermost(tape, [tape.enclosing_frames(tape.calls[number].frame) for number in maps]), ""
    # What only prepares a mask or positions for the branch may have been computed far away.
    ours = {number for number in inside if any(tape.values[v].origin == "data" for v in tape.calls[number].values)}
    paths = {number: tape.enclosing_frames(tape.calls[number].frame) for number in {*ours, found.join}}
    common = _common(list(paths.values()))
    shares: dict[str, int] = {}
    for number in sorted(ours):
        below = paths[number][len(common) :]
        if below:
            child = tape.frames[below[0]].path
            size = sum(tape.parameters[weight] for weight in tape.weights_of(tape.calls[number]))
            shares[child] = shares.get(child, 0) + size
    return _innermost(tape, [common]), max(shares, key=lambda child: shares[child], default="")


def _common(paths: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The module calls around all of these."""
    common = paths[0]
    for path in paths[1:]:
        while common != path[: len(common)]:
            common = common[:-1]
    return common


def _innermost(tape: Tape, paths: Sequence[tuple[int, ...]]) -> str:
    """The path of the last module call around all of these."""
    common = _common(paths)
    return tape.frames[common[-1]].path if common else ""


def _is_in_danger(tape: Tape, found: FoundJoin) -> bool:
    """Whether someone writes to the shortcut, or to what the join gives, while the other is still in use."""
    ours = tape.written.get(tape.values[found.shortcut.value].storage, [])
    if tape.calls[found.join].writes:  # what it gives lies in memory of its own
        return any(found.shortcut.call <= n < found.join for n in ours)
    theirs = tape.written.get(tape.values[tape.calls[found.join].values[0]].storage, [])
    return any(n >= found.shortcut.call for n in ours) or any(n > found.join for n in theirs)


def _safe(tape: Tape, join: int, operand: Operand | None) -> Operand | None:
    """The operand, to be copied if someone writes over it before the join."""
    if operand is None:
        return None
    writes = tape.written.get(tape.values[operand.value].storage, [])
    return replace(operand, copied=any(operand.call <= n < join for n in writes))


def _related(lineage: Lineage, branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """The branches numbered afresh, each with the one that feeds it and the one it lies within."""
    joins = {branch.join for branch in branches}
    related = []
    for index, branch in enumerate(branches):
        outer = [(len(o.inside), at) for at, o in enumerate(branches) if at != index and branch.join in o.inside]
        source = _source(lineage, branch.source, joins - {branch.join})
        related.append(replace(branch, index=index, parent=min(outer)[1] if outer else None, source=source))
    return tuple(related)


def _source(lineage: Lineage, value: int | None, joins: set[int]) -> int | None:
    while value is not None and value != -1:
        call = lineage.tape.values[value].call
        if call in joins:
            return call
        value = lineage.dominator[value]
    return None


def _name_of_call(tape: Tape, number: int) -> str:
    call = tape.calls[number]
    path = tape.frames[call.frame].path
    return f"{path}: {call.name}" if path else call.name
