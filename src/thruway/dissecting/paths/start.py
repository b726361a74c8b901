"""Start of the paths: the floating-point input of the model, or the first stream that a branch reads."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from torch import nn

from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.branches import Branch, Operand
from thruway.dissecting.tracing.lineage import Lineage
from thruway.dissecting.tracing.tape import Tape
from thruway.errors import ConfigError

__all__ = ["Start", "Where", "start_of", "stream_branch"]

Where = Literal["input", "stream"]


class Start(NamedTuple):
    """The start of the paths.

    Attributes:
        value: number of the value on the tape.
        argument: position among the tensors in the arguments, if the start is an input; else None.
    """

    value: int
    argument: int | None


def start_of(model: nn.Module, tape: Tape, branches: Sequence[Branch], where: Where | None = None) -> Start:
    """Find the start of the paths through these branches.

    Args:
        where: "input", "stream", or None for the floating-point input on which the first branch depends, if there is
            one, and otherwise the first stream, for example for token ids.
    Raises:
        ConfigError: for another `where`, or for "input" if the model has no floating input.
        DissectError: if the model has no branch, or its first stream cannot be determined.
    """
    if where not in (None, "input", "stream"):
        raise ConfigError(f'where must be "input" or "stream", got {where!r}. None selects one by the kind of input.')
    if not branches:
        raise DissectError("no branch was found, so there are no paths. See Dissection.refused.")
    first = branches[0]
    while first.parent is not None:  # an inner branch does not read the stream
        first = branches[first.parent]
    stream = _stream(tape, first)
    source = min((v for v in _ancestors(tape, stream) if tape.values[v].call is None), default=None)
    if where == "stream" or (source is None and where is None):
        return Start(_single(tape, stream), None)
    if source is None:
        raise ConfigError(
            'the branches of this model depend on no floating input: it looks up indices. Use where="stream", the '
            "tensor that the first branch reads."
        )
    # The first values of a tape are parameters and buffers, then the tensors in the arguments.
    return Start(source, source - sum(1 for _ in model.parameters()) - sum(1 for _ in model.buffers()))


def stream_branch(tape: Tape, first: Branch, value: int) -> Branch:
    """A pseudo-branch whose join is the call that makes `value`."""
    call = tape.calls[tape.values[value].call or 0]
    read = call.reads[0]
    shortcut = Operand(read.value, call.number, read.path)
    return replace(first, kind="module", join=call.number, shortcut=shortcut, branch=None, gate=None, carry=None)


def _stream(tape: Tape, branch: Branch) -> int:
    """The nearest value that shortcut and branch both come from."""
    if branch.kind == "module":
        return branch.shortcut.value
    ends = [branch.branch.value] if branch.branch else [r.value for r in tape.reads_data(tape.calls[branch.join])]
    others = frozenset[int]().union(*(_ancestors(tape, end) for end in ends if end != branch.shortcut.value))
    dominator = Lineage(tape).dominator
    at = branch.shortcut.value
    while at != -1 and others and at not in others:
        at = dominator[at]
    return branch.shortcut.value if at == -1 else at


def _single(tape: Tape, value: int) -> int:
    """The value, or its nearest dominator that is the main result of a call."""
    dominator = Lineage(tape).dominator
    while value != -1:
        number = tape.values[value].call
        if number is not None and tape.calls[number].reads and tape.calls[number].values[0] == value:
            return value
        value = dominator[value]
    raise DissectError(
        "the first stream is not the result of a single call, so paths cannot start there. Pass floating inputs, and "
        'where="input".'
    )


def _ancestors(tape: Tape, value: int) -> frozenset[int]:
    found, waiting = {value}, [value]
    while waiting:
        for parent in tape.values[waiting.pop()].parents:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return frozenset(found)
