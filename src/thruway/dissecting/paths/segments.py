"""Pieces of a cut autograd graph, and vector-Jacobian products of one piece."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

__all__ = ["Segment", "edge_of", "segment", "vjp"]


@dataclass(frozen=True)
class Segment:
    """The graph from some leaves to one side of a join.

    Attributes:
        edge: edge at which the incoming gradient enters.
        leaves: for each index of a join (or START), the leaves at which gradients arrive.
        is_identity: True if the gradient passes unchanged.
    """

    edge: GradientEdge
    leaves: Mapping[int, Tensor]
    is_identity: bool


def edge_of(tensor: Tensor) -> GradientEdge | None:
    """The gradient edge of a value, which stays valid when the tensor is overwritten."""
    return get_gradient_edge(tensor) if tensor.requires_grad else None


def segment(edge: GradientEdge | None, leaves: Mapping[int, Tensor]) -> Segment | None:
    """Return the piece behind an edge; None if it does not depend on any of the leaves."""
    if edge is None:
        return None
    names = {id(leaf): name for name, leaf in leaves.items()}
    met = {names[id(leaf)] for leaf in _variables(edge.node) if id(leaf) in names}
    return Segment(edge, {name: leaves[name] for name in sorted(met)}, _is_clone(edge.node)) if met else None


def vjp(piece: Segment, cotangents: Sequence[Tensor], at_once: int) -> Iterator[dict[int, Tensor]]:
    """Yield the gradients at the leaves of a piece for each gradient at its end. The graph is retained.

    Gradients are processed `at_once` at a time if every operation in the piece supports it, else one by one.
    """
    if piece.is_identity:
        (name,) = piece.leaves
        yield from ({name: cotangent} for cotangent in cotangents)
        return
    size = max(1, at_once)
    for start in range(0, len(cotangents), size):
        few = cotangents[start : start + size]
        together = _together(piece, few) if len(few) > 1 else None
        if together is None:
            size = 1 if len(few) > 1 else size
            yield from (_one(piece, cotangent) for cotangent in few)
        else:
            for place in range(len(few)):
                yield {name: gradients[place] for name, gradients in together.items()}


def _one(piece: Segment, cotangent: Tensor) -> dict[int, Tensor]:
    return _gradients(piece, cotangent, is_batched=False)


def _together(piece: Segment, cotangents: Sequence[Tensor]) -> dict[int, Tensor] | None:
    """Compute all in one batched backward pass; returns None if an operation does not support it."""
    try:
        with warnings.catch_warnings():
            # This warning means that an operation falls back to a loop, which is correct but slow.
            warnings.filterwarnings("ignore", message=".*performance drop.*", category=UserWarning)
            return _gradients(piece, torch.stack(list(cotangents)), is_batched=True)
    except (RuntimeError, NotImplementedError):
        return None  # a real error is raised again one by one


def _gradients(piece: Segment, cotangent: Tensor, *, is_batched: bool) -> dict[int, Tensor]:
    found = torch.autograd.grad(
        [piece.edge],
        list(piece.leaves.values()),
        [cotangent],
        retain_graph=True,
        allow_unused=True,
        is_grads_batched=is_batched,
    )
    return {name: gradient for name, gradient in zip(piece.leaves, found, strict=True) if gradient is not None}


def _variables(node: Node) -> Iterator[Tensor]:
    """Yield every leaf of the graph behind a node."""
    seen, waiting = {node}, [node]
    while waiting:
        at = waiting.pop()
        if hasattr(at, "variable"):
            yield at.variable
        # The tensor that copy_ overwrites gets a gradient of zeros, so it is not followed.
        onward = at.next_functions[1:] if at.name().endswith("CopyBackwards") else at.next_functions
        for following, _ in onward:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def _is_clone(node: Node) -> bool:
    while node.name() == "CloneBackward0":
        following = node.next_functions[0][0]
        if following is None:
            return False
        node = following
    return hasattr(node, "variable")
