"""Discovery of the branches on a tape, with their names and sizes."""

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
    """The branches on a tape, in the order of their joins, and the candidates that were rejected."""

    branches: tuple[Branch, ...]
    refused: tuple[Refusal, ...]


def discover(tape: Tape, declare: Iterable[str] = (), ignore: Iterable[str] = ()) -> Discovery:
    """Find the residual branches and gated blends on a tape, or else the layers of a plain chain.

    Args:
        tape: one pass of the model.
        declare: paths of modules whose output minus input is a branch, whatever they contain.
        ignore: paths of modules in which nothing is a branch, or names of branches.
    Raises:
        ConfigError: for a path of no module, or of one that did not run.
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
    branches = _named_branches(lineage, sorted(found, key=lambda each: each.join))
    refusals = [Refusal(number, _name_of_call(tape, number), reason) for number, reason in refused]
    ignore = list(ignore)
    check_paths(tape, ignore, [branch.name for branch in branches])
    left_out = [b for b in branches if any(b.name == path or is_within(tape, b.join, path) for path in ignore)]
    refusals += [Refusal(branch.join, branch.name, "ignored on request") for branch in left_out]
    kept = [branch for branch in branches if branch not in left_out]
    return Discovery(_with_relations(lineage, kept), tuple(sorted(refusals, key=lambda refusal: refusal.call)))


def _named_branches(lineage: Lineage, found: Sequence[FoundJoin]) -> list[Branch]:
    """The joins found as named branches, not yet related to each other."""
    insides = [_inside(lineage, each) for each in found]
    owners = [_owner(lineage.tape, each, inside) for each, inside in zip(found, insides, strict=True)]
    firsts = [path or "the whole model" for path, _ in owners]
    names = unique(firsts, [second or first for first, (_, second) in zip(firsts, owners, strict=True)])
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
        shortcut=replace(found.shortcut, copied=_shortcut_needs_copy(tape, found)),
        branch=_with_copy_flag(tape, found.join, found.branch),
        gate=_with_copy_flag(tape, found.join, found.gate),
        gate_carries=found.gate_carries,
        carry=_with_copy_flag(tape, found.join, found.carry),
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
    """The calls from the input of a branch to its end, and those that only these need."""
    tape = lineage.tape
    after = {found.link}
    for value in sorted(lineage.between(found.link, found.end)):
        if any(parent in after for parent in tape.values[value].parents):
            after.add(value)
    calls = {tape.values[value].call for value in after - {found.link}}
    is_last = found.kind == "module" or found.branch is None
    inside = {number for number in calls if number is not None} | found.calls
    return frozenset(inside if is_last else inside - {found.join})


def _owner(tape: Tape, found: FoundJoin, inside: frozenset[int]) -> tuple[str, str]:
    """The innermost module that contains branch and join, and its child with most of the branch's parameters."""
    if found.kind == "module":
        maps = [n for n in inside if tape.weights_of(tape.calls[n]) and role_of(tape, tape.calls[n]) in MAPS]
        return _innermost(tape, [tape.enclosing_frames(tape.calls[number].frame) for number in maps]), ""
    # Calls that only prepare a mask or positions may lie far away in the model: they do not count.
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
    """Return the common prefix of these lists of enclosing module calls."""
    common = paths[0]
    for path in paths[1:]:
        while common != path[: len(common)]:
            common = common[:-1]
    return common


def _innermost(tape: Tape, paths: Sequence[tuple[int, ...]]) -> str:
    """The path of the innermost module around all of these."""
    common = _common(paths)
    return tape.frames[common[-1]].path if common else ""


def _shortcut_needs_copy(tape: Tape, found: FoundJoin) -> bool:
    """Return True if the shortcut, or the output of the join, is overwritten while the other is still in use."""
    ours = tape.written.get(tape.values[found.shortcut.value].storage, [])
    if tape.calls[found.join].writes:  # then the output has memory of its own
        return any(found.shortcut.call <= n < found.join for n in ours)
    theirs = tape.written.get(tape.values[tape.calls[found.join].values[0]].storage, [])
    return any(n >= found.shortcut.call for n in ours) or any(n > found.join for n in theirs)


def _with_copy_flag(tape: Tape, join: int, operand: Operand | None) -> Operand | None:
    """Return the operand, marked to be copied if it is overwritten before the join."""
    if operand is None:
        return None
    writes = tape.written.get(tape.values[operand.value].storage, [])
    return replace(operand, copied=any(operand.call <= n < join for n in writes))


def _with_relations(lineage: Lineage, branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """Return the branches renumbered, each with the join that it reads from and the branch that contains it."""
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
