"""Branches, and rejected candidates with the reason for the rejection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thruway.dissecting.tracing.structure import Path

__all__ = ["Branch", "Kind", "Operand", "Refusal", "nesting_depth", "unique"]

Kind = Literal["identity", "projection", "gated", "module"]


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand of a join, and the call argument from which a rerun takes it.

    Attributes:
        value: number of the operand on the tape.
        call: number of the call.
        path: path of the argument within the arguments of the call.
        scale: factor by which the operand is multiplied, such as -1 in a subtraction.
        copied: If True, the tensor is overwritten later and must be copied when it is taken.
    """

    value: int
    call: int
    path: Path
    scale: float = 1.0
    copied: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of a model, in parallel to a shortcut: f in y = x + f(x), or H in y = x + T(x)·(H(x) - x).

    Attributes:
        index: position in `Dissection.branches`, in the order in which the joins run.
        name: path of the innermost module that contains the branch and its join, made unique.
        kind: "identity" (the shortcut is the input), "projection" (the shortcut is resized or mapped once),
            "gated" (a gate T blends H with the input), or "module" (no shortcut: a layer of a plain chain).
        join: number of the call that adds or blends; the last call of a layer.
        shortcut: x, or its projection.
        branch: f(x), or H(x). None if one call both computes and adds it.
        gate: T(x). None without a gate, or if the gate is a plain number.
        gate_carries: If True, `gate` is the weight of x, and T is 1 minus it.
        carry: the weight of x, if it is not 1 - T but has a gate of its own.
        calls: the calls that only this branch needs, which a lesion need not compute.
        start: the first call of the branch.
        inside: all calls of the branch, including those that others need too.
        input_shape: shape of the value that the branch reads, including the batch of the example.
        output_shape: shape of the join's output.
        parameters: number of elements in the distinct parameters that the branch uses.
        flops: floating-point operations of one pass over the example; a multiply-add counts as two. Only matrix
            products, convolutions and attention are counted.
        source: join of the branch whose output this one reads. None for the model's input or a stem.
        parent: index of the smallest branch that contains this one, if any.
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
        """True if input and output have the same shape."""
        return self.input_shape == self.output_shape


@dataclass(frozen=True, slots=True)
class Refusal:
    """An addition, a blend or a layer that was rejected, with the reason."""

    call: int
    name: str
    reason: str


def nesting_depth(branch: Branch, branches: Sequence[Branch]) -> int:
    """Return the number of branches that contain a branch."""
    depth = 0
    while branch.parent is not None:
        branch, depth = branches[branch.parent], depth + 1
    return depth


def unique(names: Sequence[str], seconds: Sequence[str]) -> list[str]:
    """Make names unique, by the second name where it differs, then by a number.

    >>> unique(["h.0", "h.0", "h.1", "f", "f"], ["h.0.attn", "h.0.mlp", "h.1.attn", "f.fc", "f.fc"])
    ['h.0.attn', 'h.0.mlp', 'h.1', 'f', 'f (2)']
    """
    groups: dict[str, set[str]] = {}
    for name, second in zip(names, seconds, strict=True):
        groups.setdefault(name, set()).add(second)
    seen: dict[str, int] = {}
    unique_names: list[str] = []
    for name, second in zip(names, seconds, strict=True):
        chosen = second if len(groups[name]) > 1 else name
        seen[chosen] = seen.get(chosen, 0) + 1
        unique_names.append(chosen if seen[chosen] == 1 else f"{chosen} ({seen[chosen]})")
    return unique_names
