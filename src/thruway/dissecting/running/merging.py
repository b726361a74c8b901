"""Merge functions: what a join gives in a rerun, from the operands that meet at it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from thruway.dissecting.finding.branches import Branch

__all__ = ["JoinHook", "Merge", "ObservedJoin", "Operands"]


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
