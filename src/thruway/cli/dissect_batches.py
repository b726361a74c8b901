"""Counting, slicing and batching of nested tensors whose first dimension is the batch."""

import math
from typing import Any

from torch import Tensor

from thruway.dissecting.tracing.structure import map_structure, tensors_in

__all__ = ["batched", "count_of", "first_examples", "part_of"]


def count_of(inputs: Any) -> int:
    """Return the number of examples: the size of the first dimension of the first tensor that has dimensions."""
    return next((len(leaf) for _, leaf in tensors_in(inputs) if leaf.dim()), 0)


def part_of(structure: Any, start: int, stop: int) -> Any:
    """Return the examples from start to stop. Tensors whose first dimension has another size are not sliced."""
    count = max((len(leaf) for _, leaf in tensors_in(structure) if leaf.dim()), default=math.inf)

    def cut(leaf: Any) -> Any:
        return leaf[start:stop] if isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == count else leaf

    return map_structure(structure, cut)


def first_examples(inputs: Any, count: int) -> Any:
    """Return the first `count` examples of a batch."""
    return part_of(inputs, 0, count)


def batched(inputs: Any, targets: Any, at_once: int, most: int) -> list[tuple[Any, Any]]:
    """Split inputs and targets into batches. Every batch contains the whole of a tensor that has no row per example.

    Args:
        at_once: batch size.
        most: maximum total number of examples.

    >>> import torch
    >>> [(x.tolist(), y.tolist()) for x, y in batched(torch.arange(5), torch.arange(5), 2, 3)]
    [([0, 1], [0, 1]), ([2], [2])]
    """
    count = min(count_of(inputs), most)
    starts = range(0, count, at_once)
    return [
        (part_of(inputs, start, min(start + at_once, count)), part_of(targets, start, min(start + at_once, count)))
        for start in starts
    ]
