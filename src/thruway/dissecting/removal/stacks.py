"""Layers of a `HighwayStack`, whose weights are slices of one parameter."""

from collections.abc import Sequence

import torch
from torch import nn

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.tracing.tape import Tape
from thruway.nn import HighwayStack

__all__ = ["kept_layers", "shorten"]


def kept_layers(
    model: nn.Module, tape: Tape, branches: Sequence[Branch], removed: Sequence[Branch]
) -> dict[str, tuple[int, ...]]:
    """Return the layers that remain of each stack that loses some, but not all.

    Args:
        branches: all branches on the tape, one for each layer of a stack.
        removed: those that are removed.
    """
    gone = {branch.join for branch in removed}
    kept: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        if isinstance(module, HighwayStack):
            joins = sorted(b.join for b in branches if tape.frames[tape.calls[b.join].frame].path == path)
            left = [layer for layer, join in enumerate(joins) if join not in gone]
            if len(joins) == module.depth and 0 < len(left) < module.depth:
                kept[path] = tuple(left)
    return kept


def shorten(stack: HighwayStack, layers: Sequence[int]) -> None:
    """Keep these layers of a stack, with copies of their weights."""
    for name in ("weight", "bias"):
        parameter: nn.Parameter = getattr(stack, name)
        kept = parameter.detach()[torch.as_tensor(layers, device=parameter.device)].clone()
        setattr(stack, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))
    stack.depth = len(layers)
