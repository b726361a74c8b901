"""What the dissection finds: branches, and what looked like one and is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thruway.dissecting.tracing.structure import Path

__all__ = ["Branch", "Kind", "Operand", "Refusal", "nesting_depth", "unique"]

Kind = Literal["identity", "projection", "gated", "module"]


@dataclass(frozen=True, slots=True)
class Operand:
    """Where a value can be had while the model runs: an argument of a call."""

    value: int
    call: int
    path: Path
    scale: float = 1.0  # the join counts it this often
    copied: bool = False  # someone writes over it later on: it must be copied when it is taken


@dataclass(frozen=True, slots=True)
class Branch:
    """Computation that runs beside a shortcut and joins it again: y = x + f(x), or y = x + T(x)·(H(x) - x).

    Attributes:
        index: place in `Dissection.branches`, in the order in which the joins run.
        name: the innermost module that holds the branch and its join, made unique.
        kind: "identity" (the shortcut is what came in), "projection" (it is resized or mapped once),
            "gated" (a gate T blends H with what came in), or "module" (no shortcut: a layer of a plain chain).
        join: number of the call that adds or blends; of a layer, its last call.
        shortcut: x, or the projection of it.
        branch: f(x), or H(x); None where one call both computes and adds it.
        gate: T(x); None where there is none, or a plain number.
        gate_carries: `gate` is the share of x instead: T is 1 minus it.
        carry: the share of x where it is not 1 - T but has a gate of its own.
        calls: the calls that nothing but this branch needs: those which a lesion need not compute.
        start: the first call of the branch.
        inside: all its calls, also those that others need too.
        input_shape: of the value that the branch reads, with the batch it was found with.
        output_shape: of what the join gives.
        parameters: numbers in the distinct parameters that the branch works with.
        flops: of one pass over the example, a multiply-add counted as two; products of matrices, convolutions
            and attention only.
        source: join of the branch whose output it reads; None for the model's input or a stem.
        parent: index of the smallest branch that this one lies within, if any.
    """

    index: int
    name: str
    kind: Kind
    join: int
    shortcut: Operand
    branch: Operand | None
    gate: Operand | None
    gate_carries: bool
    carry: Operand | None
    calls: tuple[int, ...]
    start: int
    inside: frozenset[int]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    source: int | None
    parent: int | None

    @property
    def keeps_shape(self) -> bool:
        """Whether what comes out could go in again."""
        return self.input_shape == self.output_shape


@dataclass(frozen=True, slots=True)
class Refusal:
    """An add, a blend or a layer that is no branch, and why."""

    call: int
    name: str
    reason: str


def nesting_depth(branch: Branch, branches: Sequence[Branch]) -> int:
    """How many branches a branch lies within."""
    depth = 0
    while branch.parent is not None:
        branch, depth = branches[branch.parent], depth + 1
    return depth


def unique(names: Sequence[str], seconds: Sequence[str]) -> list[str]:
    """Names told apart: by the second name where that differs, then by number.

    >>> unique(["h.0", "h.0", "h.1", "f", "f"], ["h.0.attn", "h.0.mlp", "h.1.attn", "f.fc", "f.fc"])
    ['h.0.attn', 'h.0.mlp', 'h.1', 'f', 'f (2)']
    """
    groups: dict[str, set[str]] = {}
    for name, second in zip(names, seconds, strict=True):
        groups.setdefault(name, set()).add(second)
    seen: dict[str, int] = {}
    told: list[str] = []
    for name, second in zip(names, seconds, strict=True):
        chosen = second if len(groups[name]) > 1 else name
        seen[chosen] = seen.get(chosen, 0) + 1
        told.append(chosen if seen[chosen] == 1 else f"{chosen} ({seen[chosen]})")
    return told
