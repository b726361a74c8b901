"""Facts about a step that are not measured on a tensor: the state of a parameter and the operations of the loss."""

import enum
from dataclasses import dataclass

__all__ = ["LossNode", "ParameterState"]


class ParameterState(enum.IntFlag):
    """State of a parameter in one step: the bits of the quantity "state".

    >>> ParameterState(7) == ParameterState.TRAINABLE | ParameterState.OPTIMIZED | ParameterState.HAS_GRADIENT
    True
    """

    TRAINABLE = 1  # requires_grad
    OPTIMIZED = 2  # in a parameter group of the watched optimizer
    HAS_GRADIENT = 4  # .grad was not None when the optimizer stepped
    STALE = 8  # .grad was still that of the previous step when the backward pass of this step began


@dataclass(frozen=True)
class LossNode:
    """An operation between the outputs of the model and the loss, as in autograd's graph.

    `operation` is the name of the autograd node ("NllLossBackward0"), `shape` that of its result, and `site` the name
    of the output that is this result, if it was captured. `inputs` are the positions, in `Trace.loss_graph`, of the
    operations whose results it takes.
    """

    operation: str
    shape: tuple[int, ...]
    site: str | None = None
    inputs: tuple[int, ...] = ()
