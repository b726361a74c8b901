"""A forward pass whose graph is cut at every join, so that each branch and shortcut has a backward pass of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from thruway.dissecting.errors import DissectError
from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.paths.routes import START, Joint, Routes
from thruway.dissecting.paths.segments import Segment, edge_of, segment
from thruway.dissecting.paths.start import Where, start_of, stream_branch
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.merging import Merge, Operands
from thruway.dissecting.tracing.functions import PRODUCTS
from thruway.dissecting.tracing.structure import map_structure, reachable_tensors
from thruway.dissecting.tracing.tape import Tape
from thruway.errors import ConfigError, ShapeError

__all__ = ["CutJoin", "CutPass", "cut_pass"]


@dataclass(frozen=True)
class CutJoin:
    """A join and the graphs behind its two sides; None if a side has no gradient."""

    index: int
    skip: Segment | None
    through: Segment | None


@dataclass
class CutPass:
    """A forward pass cut into pieces.

    Attributes:
        joins: in the order in which they ran.
        end: the piece from the last joins to the loss.
        start: the tensor that gradients are taken with respect to, (batch, ...).
        loss_form: ones in the shape of the loss, which are its gradient with respect to itself.
        per_example: True if the loss gave one number for each example.
    """

    joins: list[CutJoin]
    end: Segment | None
    start: Tensor
    loss_form: Tensor
    per_example: bool

    def routes(self) -> Routes:
        """The routes through the pieces that autograd has."""

        def names(piece: Segment | None) -> frozenset[int]:
            return frozenset(piece.leaves if piece is not None else ())

        joints = (Joint(join.index, names(join.skip), names(join.through)) for join in self.joins)
        return Routes(tuple(joints), names(self.end))


class _Cuts:
    """The cuts made while the model runs.

    Attributes:
        leaves: for each index of a join, the leaf that replaced its output.
        edges: for each index of a join, the gradient edges of its two sides.
    """

    def __init__(self) -> None:
        self.leaves: dict[int, Tensor] = {}
        self.edges: dict[int, tuple[GradientEdge | None, GradientEdge | None]] = {}

    def leaf(self, index: int, value: Tensor) -> Tensor:
        """Detach a value as a new leaf, and return a copy of it for the model to use."""
        self.leaves[index] = value.detach().requires_grad_()
        # The model may write into the copy; a leaf must not be written to.
        return self.leaves[index].clone()

    def merge(self, branch: Branch, tape: Tape) -> Merge:
        """A merge that stores the gradient edges of both sides and returns the detached output."""
        number = _gate_number(tape, branch)

        def cut(at: Operands) -> Tensor:
            if branch.kind == "module":
                skip, through, value = None, at.branch, at.branch
            elif branch.kind == "gated":
                skip, through = _blended(at, number)
                value = through
            else:
                skip, through, value = at.shortcut, at.branch, at.shortcut + at.branch
            self.edges[branch.index] = None if skip is None else edge_of(skip), edge_of(through)
            return self.leaf(branch.index, value)

        return cut


def cut_pass(
    engine: Engine,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    loss: Callable[[Any], Tensor],
    where: Where | None,
) -> CutPass:
    """Run the model and the loss, cut at every join and at the start.

    Raises:
        DissectError: if the loss does not depend on the start of the paths.
        ShapeError: if the loss is neither one number nor one for each example.
    """
    start = start_of(engine.model, engine.tape, engine.branches, where)
    cuts = _Cuts()
    if start.argument is not None:
        tensor = list(reachable_tensors((args, kwargs)))[start.argument]
        with torch.inference_mode(False), torch.enable_grad():
            replaced = cuts.leaf(START, tensor)
        args, kwargs = map_structure((args, kwargs), lambda leaf: replaced if leaf is tensor else leaf)

    def merges(tape: Tape, branches: Sequence[Branch]) -> list[tuple[Branch, Merge | None]]:
        pairs: list[tuple[Branch, Merge | None]] = [(branch, cuts.merge(branch, tape)) for branch in branches]
        if start.argument is not None:
            return pairs
        value = start_of(engine.model, tape, branches, "stream").value
        return [(stream_branch(tape, branches[0], value), lambda at: cuts.leaf(START, at.branch)), *pairs]

    with torch.inference_mode(False), torch.enable_grad():
        output = engine.run(merges, args, kwargs)
        total = loss(output)
        _check_loss(total, cuts.leaves[START].shape[0] if cuts.leaves[START].dim() else 1)
        end = segment(edge_of(total), cuts.leaves)
    joins = [
        CutJoin(index, segment(skip, cuts.leaves), segment(through, cuts.leaves))
        for index, (skip, through) in sorted(cuts.edges.items())
    ]
    cut = CutPass(joins, end, cuts.leaves[START], torch.ones_like(total), total.dim() == 1)
    if not any(cut.routes().counts()):
        raise DissectError(
            "no path leads from the start to the loss: the loss does not depend on the start, or something detaches in "
            'between. Try where="stream", or a loss of another part of the output.'
        )
    return cut


def _blended(at: Operands, number: float | None) -> tuple[Tensor, Tensor]:
    """Return the two sides of y = T·h + C·x: C·x with C constant, and the rest, which has the value of y."""
    x, h = at.shortcut, at.branch
    gate = number if at.gate is None else at.gate
    if gate is None:
        raise DissectError(
            "a branch is blended by a number that is not on the tape. Pass the branch to `ignore` of dissect."
        )
    carry = 1 - gate if at.carry is None else at.carry
    # Copies, since the join may overwrite tensors that autograd saves for a product.
    kept = x.detach().clone()
    constant = carry.detach().clone() if isinstance(carry, Tensor) else carry
    return constant * x, (gate.clone() if isinstance(gate, Tensor) else gate) * h.clone() + carry * kept


def _gate_number(tape: Tape, branch: Branch) -> float | None:
    """T of a blend by a plain number: lerp(x, h, T), x + T·(h - x), or 1 for h + C·x."""
    if branch.kind != "gated" or branch.gate is not None or branch.branch is None:
        return None
    if branch.carry is not None:
        return 1.0
    join = tape.calls[branch.join]
    if join.name == "lerp":
        args, kwargs = join.constants
        weight = kwargs.get("weight", args[-1] if args else None)
        backwards = branch.branch.path[0] in (0, "input")
        return None if not isinstance(weight, (int, float)) else 1 - weight if backwards else float(weight)
    step = tape.calls[branch.branch.call].values[0]
    for call in tape.calls[branch.branch.call : branch.join]:
        if call.name in PRODUCTS and any(read.value == step for read in call.reads):
            args, kwargs = call.constants
            return next((float(v) for v in (*args, *kwargs.values()) if isinstance(v, (int, float))), None)
    return None


def _check_loss(total: object, examples: int) -> None:
    if not isinstance(total, Tensor) or not total.is_floating_point():
        raise ConfigError(
            f"the loss must return a floating tensor, got {type(total).__name__}. Return the loss itself."
        )
    if total.dim() > 1 or (total.dim() == 1 and len(total) != examples):
        raise ShapeError(
            f"the loss must return one number, or one for each of {examples} examples, got {tuple(total.shape)}. "
            'Use reduction="sum", or flatten all but the first axis and sum.'
        )
    if not total.requires_grad:
        raise DissectError("the loss has no gradient with respect to the model's output. Remove detach().")
