"""Merge functions, and the output of a join computed with one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from thruway.dissecting.errors import TapeMismatchError
from thruway.dissecting.finding.branches import Branch, Operand
from thruway.dissecting.tracing.tape import Call, Tape

__all__ = ["JoinHook", "Merge", "ObservedJoin", "Operands", "check_shape", "join_output", "operands_of"]


class Operands(NamedTuple):
    """The operands of a join: y = shortcut + branch, or y = (1 - gate)·shortcut + gate·branch.

    Args:
        shortcut: x, or its projection.
        branch: f(x), or H(x); the output of a layer without shortcut.
        gate: T(x). None without a gate, or if the gate is a plain number.
        carry: the weight of the shortcut, if it is not 1 - T.
    """

    shortcut: Tensor
    branch: Tensor
    gate: Tensor | None = None
    carry: Tensor | None = None


# Computes the output of a join.
Merge = Callable[[Operands], Tensor]

# Called with the output of a join without its branch, x, and with it, y. The result replaces y.
JoinHook = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class ObservedJoin:
    """A merge that makes the recorded call of the join and passes its input and output to a hook."""

    hook: JoinHook

    def __call__(self, at: Operands) -> Tensor:
        return self.hook(at.shortcut, at.branch)

    @staticmethod
    def as_module(branch: Branch) -> Branch:
        """Describe the branch as one call that reads x and returns y, whatever its kind."""
        return replace(branch, kind="module", branch=None, gate=None, carry=None)


def operands_of(branch: Branch, merge: Merge | None) -> list[Operand]:
    """Return the operands of a join that a rerun needs: only the shortcut if the branch is left out."""
    needed = [branch.shortcut] if merge is None else [branch.shortcut, branch.branch, branch.gate, branch.carry]
    return [operand for operand in needed if operand is not None]


def join_output(
    call: Call, branch: Branch, merge: Merge | None, take: Callable[[Operand], Any], compute: Callable[[], Tensor]
) -> Tensor:
    """Compute the output of a join in a rerun.

    Args:
        call: the call of the join.
        branch: the branch that joins there.
        merge: None to leave the branch out.
        take: function that returns the tensor of an operand, before it is scaled.
        compute: function that makes the recorded call, for a branch that is computed and added in one call.
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
    """Check that the output of a join has the recorded shape.

    Raises:
        TapeMismatchError: if it has another shape.
    """
    shape = tape.values[call.values[0]].shape
    if tuple(joined.shape) != shape:
        raise TapeMismatchError(
            f"{tape.describe(call.number)} gave {shape} when recorded, and {tuple(joined.shape)} now."
        )
