"""Operations between the outputs of the model and the loss."""

import math
from collections.abc import Iterator, Sequence

from thruway.diagnosing.reading import Reading
from thruway.watching.facts import LossNode as Node

__all__ = [
    "Node",
    "chance_loss",
    "contains_layers",
    "feeding",
    "loss_nodes",
    "negated_loss",
    "other_layers",
    "unbounded_loss",
]

# Operations that rearrange or select values, or change their type, but not the values themselves.
_REARRANGING = (
    "View UnsafeView Reshape ReshapeAlias Alias Squeeze Unsqueeze Flatten Unflatten Transpose T Permute Select "
    "Slice Clone ToCopy Expand Index Gather Narrow Split Unbind Cat Contiguous AsStrided Detach MaskedSelect"
)
_SAME_VALUES = frozenset(f"{name}Backward{n}" for name in _REARRANGING.split() for n in range(5))
_LAYERS = ("AddmmBackward", "MmBackward", "ConvolutionBackward", "BmmBackward", "LinearBackward", "BaddbmmBackward")
_KEEP_SIGN = ("NegBackward", "DivBackward", "MeanBackward", "SumBackward")  # the first one apart
_WITH_PARAMETERS = ("AddmmBackward", "ConvolutionBackward", "LinearBackward")


def loss_nodes(reading: Reading) -> tuple[Node, ...]:
    """Return the operations from the loss down to the outputs of the model, breadth first; empty if unknown."""
    return reading.trace.loss_graph


def feeding(nodes: Sequence[Node], node: Node) -> Iterator[Node]:
    """Yield the operations whose values go into a node unchanged."""
    left = [nodes[place] for place in node.inputs]
    while left:
        found = left.pop(0)
        yield found
        if found.site is None and found.operation in _SAME_VALUES:
            left += [nodes[place] for place in found.inputs]


def _of_loss(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield the operations that compute the loss from the outputs of the model."""
    left, seen = [0] if nodes else [], {0}
    while left:
        node = nodes[left.pop(0)]
        # What lies behind an output of the model belongs to the model, unless the output is the loss.
        if node.site is not None and math.prod(node.shape) > 1:
            continue
        if node.site is None:
            yield node
        left += [place for place in node.inputs if place not in seen]
        seen.update(node.inputs)


def contains_layers(nodes: Sequence[Node]) -> bool:
    """Return True if the loss is computed by another network, as that of the generator of a GAN is."""
    return any(node.operation.startswith(_LAYERS) for node in _of_loss(nodes))


def other_layers(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the layers of another network that computes the loss, from the first to the last.

    A product of two matrices is a layer if one of them is a parameter: a loss may multiply outputs with each other.
    """

    def has_parameter(node: Node) -> bool:
        sources = [nodes[place] for place in node.inputs]
        behind = [nodes[p] for source in sources if source.operation in _SAME_VALUES for p in source.inputs]
        return any(each.operation.endswith("AccumulateGrad") for each in (*sources, *behind))

    found = [node for node in _of_loss(nodes) if node.operation.startswith(_LAYERS)]
    return tuple(n for n in found[::-1] if n.operation.startswith(_WITH_PARAMETERS) or has_parameter(n))


def chance_loss(nodes: Sequence[Node]) -> float | None:
    """Return the cross-entropy of a constant guess: ln C for C classes, ln 2 for binary cross-entropy; else None."""
    for node in nodes:
        if node.operation == "LogSoftmaxBackward0" and len(node.shape) >= 2:
            classes = node.shape[1] if len(node.shape) > 2 else node.shape[-1]
            return math.log(classes) if classes > 1 else None
        if node.operation.startswith("NllLoss") and node.inputs and len(nodes[node.inputs[0]].shape) == 2:
            classes = nodes[node.inputs[0]].shape[1]
            return math.log(classes) if classes > 1 else None
        if node.operation.startswith("BinaryCrossEntropy"):
            return math.log(2.0)
    return None


def negated_loss(nodes: Sequence[Node]) -> str:
    """Return a sentence if the loss is minus a loss that has its minimum at 0, or plus a log-probability, else ""."""
    place, signs = 0, 0
    while nodes and place < len(nodes):
        node = nodes[place]
        signs += node.operation.startswith("NegBackward")
        if node.operation.startswith(("NllLoss", "MseLoss", "BinaryCrossEntropy", "SmoothL1Loss", "HuberLoss")):
            return f"the loss is minus {node.operation.partition('Backward')[0]}" if signs % 2 else ""
        if node.operation.startswith("LogSoftmax"):
            return "" if signs % 2 else "the loss is plus the log-probability of the targets, instead of minus it"
        if len(node.inputs) != 1 or not (node.operation.startswith(_KEEP_SIGN) or node.operation in _SAME_VALUES):
            return ""
        place = node.inputs[0]
    return ""


def unbounded_loss(nodes: Sequence[Node]) -> str:
    """Return a sentence if nll_loss, which takes log-probabilities, gets the raw outputs of a layer, else ""."""
    for node in nodes:
        if node.operation.startswith("NllLoss") and any(f.operation.startswith(_LAYERS) for f in feeding(nodes, node)):
            return "nll_loss takes log-probabilities, but the model returns raw outputs: apply log_softmax"
    return ""
