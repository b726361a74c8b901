"""Merge functions: what a join gives in a rerun, from the operands that meet at it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.finding.branches import Branch, Operand
from thruway.dissecting.tracing.tape import Call, Tape

__all__ = ["JoinHook", "Merge", "ObservedJoin", "Operands", "check_shape", "join_output", "operands_of"]


class Operands(NamedTuple):
    """What meets at a join: y = shortcut + branch, or y = (1 - gate)·shortcut + gate·branch."""

    shortcut: Tensor
    branch: Tensor  # of a layer without shortcut: its output
    gate: Tensor | None = None  # T; None without a gate, or where the gate is a plain number
    carry: Tensor | None = None  # the weight of the shortcut, where it is not 1 - T


Merge = Callable[[Operands], Tensor]

# Takes the join's output without the branch, x, and with it, y. Its result takes the place of y.
JoinHook = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class ObservedJoin:
    """A merge that leaves the join to the model's own call, and passes its input and output to a hook."""

    hook: JoinHook

    def __call__(self, at: Operands) -> Tensor:
        return self.hook(at.shortcut, at.branch)

    @staticmethod
    def as_module(branch: Branch) -> Branch:
        """The branch as one call that reads x and returns y, whatever its kind."""
        return replace(branch, kind="module", branch=None, gate=None, carry=None)


def operands_of(branch: Branch, merge: Merge | None) -> list[Operand]:
    """The operands of a join that a rerun needs: of a branch that is left out, only the shortcut."""
    needed = [branch.shortcut] if merge is None else [branch.shortcut, branch.branch, branch.gate, branch.carry]
    return [operand for operand in needed if operand is not None]


def join_output(
    call: Call, branch: Branch, merge: Merge | None, take: Callable[[Operand], Any], compute: Callable[[], Tensor]
) -> Tensor:
    """What a join gives in a rerun, before it is written to memory.

    Args:
        call: of the join.
        merge: None if the branch is left out.
        take: the tensor of an operand, unscaled.
        compute: makes the recorded call; for a branch that is computed and added in one call.
    """

    def scaled(operand: Operand | None) -> Any:
        if operand is None:
            return None
        tensor = take(operand)
        return tensor if operand.scale == 1.0 else operand.scale * tensor

    shortcut: Tensor = scaled(branch.shortcut)
    if merge is None:
        return shortcut
    gate, carry = scaled(branch.gate), scaled(branch.carry)
    if gate is not None and branch.gate_carries:
        gate = 1 - gate
    if branch.branch is not None:
        return merge(Operands(shortcut, scaled(branch.branch), gate, carry))
    before = shortcut.clone() if call.writes else shortcut
    whole = compute()
    return merge(Operands(before, whole if branch.kind == "module" else whole - before, gate, carry))


def check_shape(tape: Tape, call: Call, joined: Tensor) -> None:
    """Refuse the output of a join that has another shape than the recorded one.

    Raises:
        TapeMismatchError: if it has.
    """
    shape = tape.values[call.values[0]].shape
    if tuple(joined.shape) != shape:
        raise TapeMismatchError(
            f"{tape.describe(call.number)} gave {shape} when recorded, and {tuple(joined.shape)} now."
        )
