"""Operations between the loss and the outputs of the model, read from autograd's graph."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from thruway.watching.facts import LossNode

__all__ = ["loss_graph"]

_MOST = 256  # operations; a loss that calls another network is cut off
# Outputs that a loss may apply a second time: what they take is part of the question if the loss suits the model.
_FOLLOWED = frozenset(("SoftmaxBackward0", "LogSoftmaxBackward0", "SigmoidBackward0"))


def loss_graph(loss: Tensor, site_of: Callable[[Any], str | None]) -> tuple[LossNode, ...]:
    """Return the operations from the loss down to the first captured outputs, breadth first.

    Captured outputs are included, and not followed further unless they are scalars, such as a loss that the model
    returns, or results of softmax, log_softmax or sigmoid.

    Args:
        loss: scalar on which backward was called.
        site_of: function of an autograd node that returns the name of the captured output that it computed.

    >>> import torch
    >>> output = torch.ones(2, 3, requires_grad=True) * 2
    >>> nodes = loss_graph(output.log_softmax(1).mean(), lambda node: None)
    >>> [(node.operation, node.shape, node.inputs) for node in nodes[:2]]
    [('MeanBackward0', (), (1,)), ('LogSoftmaxBackward0', (2, 3), (2,))]
    """
    if loss.grad_fn is None:
        return ()
    nodes: list[Any] = [loss.grad_fn]
    place = {loss.grad_fn: 0}
    found: list[LossNode] = []
    while len(found) < len(nodes):
        node = nodes[len(found)]
        name, site, shape = node.name().rpartition("::")[2], site_of(node), _shape_of(node)
        inputs = []
        if site is None or math.prod(shape) == 1 or name in _FOLLOWED:
            for source, _ in node.next_functions:
                if source is not None and source not in place and len(nodes) < _MOST:
                    place[source] = len(nodes)
                    nodes.append(source)
                if source in place:
                    inputs.append(place[source])
        found.append(LossNode(name, shape, site, tuple(inputs)))
    return tuple(found)


def _shape_of(node: Any) -> tuple[int, ...]:
    """Return the shape of the first result of a node."""
    metadata = node._input_metadata  # the inputs of the backward function are gradients of the results
    if not metadata or metadata[0].is_nested_tensor:  # which has no shape in numbers
        return ()
    return tuple(int(size) for size in metadata[0].shape)
