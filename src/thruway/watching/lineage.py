"""Who descends from whom among the tensors of one pass: which adds are residual adds, which sigmoids are gates.

A residual add joins a tensor with one of its own descendants: x + f(x), with weights in f. Where the
shortcut is a projection, both operands descend from one tensor instead.
"""

import weakref
from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["Lineage"]

# Nodes walked for one add: a block is tens of operations long, not thousands.
_REACH = 2000


class Lineage:
    """Operations numbered in the order they ran, each with the operations it drew from."""

    def __init__(self) -> None:
        self._number: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._parents: list[tuple[int, ...]] = []
        self._has_weights: list[bool] = []
        self._is_product: list[bool] = []

    def note(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor], *, is_product: bool = False) -> None:
        """An operation made these from those."""
        inputs = list(inputs)
        parents = tuple(self._of(t) for t in inputs if not isinstance(t, nn.Parameter))
        has_weights = any(isinstance(t, nn.Parameter) for t in inputs)
        for output in outputs:
            self._name(output, parents, has_weights, is_product and len(parents) > 1)

    def branch_of(self, a: Tensor, b: Tensor) -> int | None:
        """Which operand of a + b is a residual branch, 0 or 1; None when the add is no residual one."""
        if isinstance(a, nn.Parameter) or isinstance(b, nn.Parameter):
            return None
        first, second = self._of(a), self._of(b)
        for ancestor, descendant, branch in ((first, second, 1), (second, first, 0)):
            between = self._ancestors(descendant, down_to=ancestor)
            if ancestor in between and any(self._has_weights[n] for n in between if n > ancestor):
                return branch
        if self._is_product[first] or self._is_product[second]:
            return None  # a blend t*h + (1-t)*x
        ours, theirs = self._ancestors(first), self._ancestors(second)
        common = ours & theirs
        if not common:
            return None
        nearest = max(common)
        weights = [sum(self._has_weights[n] for n in side if n > nearest) for side in (ours, theirs)]
        if not any(weights):
            return None
        return int(weights[1] > weights[0])

    def _of(self, tensor: Tensor) -> int:
        known = self._number.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        return self._name(tensor, (), False, False)

    def _name(self, tensor: Tensor, parents: tuple[int, ...], has_weights: bool, is_product: bool) -> int:
        number = len(self._parents)
        self._parents.append(parents)
        self._has_weights.append(has_weights)
        self._is_product.append(is_product)
        self._number[id(tensor)] = (weakref.ref(tensor), number)
        return number

    def _ancestors(self, number: int, down_to: int = 0) -> set[int]:
        """`number` and what it descends from, as far back as `down_to`."""
        found, waiting = set[int](), [number]
        while waiting and len(found) < _REACH:
            at = waiting.pop()
            if at >= down_to and at not in found:
                found.add(at)
                waiting.extend(self._parents[at])
        return found
