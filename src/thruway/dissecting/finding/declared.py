"""Branches that the user declares, and paths that the user wants ignored."""

from collections.abc import Iterable

from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.chains import first_read
from thruway.dissecting.finding.joins import FoundJoin
from thruway.dissecting.tracing.lineage import Cut, Lineage, unneeded
from thruway.dissecting.tracing.tape import Frame, Tape
from thruway.errors import ConfigError, unknown_name

__all__ = ["check_paths", "declared_in", "is_within"]


def declared_in(lineage: Lineage, paths: Iterable[str]) -> list[FoundJoin]:
    """Return one branch, f(x) = output - input, for every call of a declared module.

    Raises:
        ConfigError: for a path of no module, or of one that did not run.
        DissectError: if a module changes the shape, or does not use its input.
    """
    paths = list(paths)
    check_paths(lineage.tape, paths, [])
    return [_declared(lineage, frame) for frame in lineage.tape.frames if frame.path in paths]


def _declared(lineage: Lineage, frame: Frame) -> FoundJoin:
    tape, name = lineage.tape, frame.path or "the model itself"
    if frame.input is None or frame.output is None or tape.values[frame.output].origin != "data":
        raise DissectError(
            f"{name} was declared a branch, but does not map a floating tensor to one. Declare another module."
        )
    x, y = tape.values[frame.input], tape.values[frame.output]
    if x.shape != y.shape:
        raise DissectError(
            f"{name} was declared a branch, but maps {x.shape} to {y.shape}, so output - input is not defined. "
            "Declare a module that keeps the shape."
        )
    shortcut = first_read(tape, x.number, frame.first, y.call) if y.call is not None and y.call >= frame.first else None
    if shortcut is None or y.call is None:
        raise DissectError(
            f"{name} was declared a branch, but its output does not depend on its input. Declare another module."
        )
    calls = unneeded(tape, [Cut(y.call, x.number)])
    return FoundJoin("identity", y.call, shortcut, None, None, False, None, x.number, y.number, calls)


def check_paths(tape: Tape, paths: Iterable[str], others: Iterable[str]) -> None:
    """Check that every path is a module that ran, or one of the other names.

    Raises:
        ConfigError: if not, with the closest path.
    """
    ran = {frame.path for frame in tape.frames}
    for path in paths:
        if path not in ran and path not in set(others):
            raise ConfigError(f"{unknown_name('module', path, ran - {''})} Only modules that ran can be given.")


def is_within(tape: Tape, call: int, path: str) -> bool:
    """Return True if a call was made in the module of this path."""
    return any(tape.frames[frame].path == path for frame in tape.enclosing_frames(tape.calls[call].frame))
