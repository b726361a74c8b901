"""What the user says about branches: modules that are one, and places where none is."""

from collections.abc import Iterable

from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.chains import first_read
from thruway.dissecting.finding.joins import FoundJoin
from thruway.dissecting.tracing.lineage import Cut, Lineage, unneeded
from thruway.dissecting.tracing.tape import Frame, Tape
from thruway.errors import ConfigError, unknown_name

__all__ = ["check_paths", "declared_in", "is_within"]


def declared_in(lineage: Lineage, paths: Iterable[str]) -> list[FoundJoin]:
    """One branch for every call of the modules named, f(x) = output - input.

    Raises:
        ConfigError: for a path that is no module, or did not run.
        DissectError: if the module changes the shape, or does nothing with its input.
    """
    paths = list(paths)
    check_paths(lineage.tape, paths, [])
    return [_declared(lineage, frame) for frame in lineage.tape.frames if frame.path in paths]


def _declared(lineage: Lineage, frame: Frame) -> FoundJoin:
    tape, name = lineage.tape, frame.path or "the model itself"
    if frame.input is None or frame.output is None or tape.values[frame.output].origin != "data":
        raise DissectError(f"{name} was declared a branch, but takes or gives no floating tensor. Declare another.")
    x, y = tape.values[frame.input], tape.values[frame.output]
    if x.shape != y.shape:
        raise DissectError(
            f"{name} was declared a branch, but makes {y.shape} of {x.shape}: output - input has no meaning. "
            "Declare a module that keeps the shape."
        )
    shortcut = first_read(tape, x.number, frame.first, y.call) if y.call is not None and y.call >= frame.first else None
    if shortcut is None or y.call is None:
        raise DissectError(f"{name} was declared a branch, but computes nothing from its input. Declare another.")
    calls = unneeded(tape, [Cut(y.call, x.number)])
    return FoundJoin("identity", y.call, shortcut, None, None, False, None, x.number, y.number, calls)


def check_paths(tape: Tape, paths: Iterable[str], others: Iterable[str]) -> None:
    """Refuse names of nothing.

    Raises:
        ConfigError: naming the nearest module that ran.
    """
    ran = {frame.path for frame in tape.frames}
    for path in paths:
        if path not in ran and path not in set(others):
            raise ConfigError(unknown_name("module (of those that ran)", path, ran - {""}))


def is_within(tape: Tape, call: int, path: str) -> bool:
    """Whether a call was made in the module of this path."""
    return any(tape.frames[frame].path == path for frame in tape.enclosing_frames(tape.calls[call].frame))
