"""Who descends from whom among the tensors of one pass: which adds are residual adds, which sigmoids are gates.

A residual add joins a tensor with one of its own descendants: x + f(x), with weights in f. Where the
shortcut is a projection, both operands descend from one tensor that the model made: the shortcut by one map
at most, the branch by several.
"""

import weakref
from collections.abc import Iterable

from torch import Tensor, nn

from thruway.watching.roles import Role

__all__ = ["Lineage"]

# Nodes walked for one add: a block is tens of operations long, not thousands.
_REACH = 2000


class Lineage:
    """Operations numbered in the order they ran, each with the operations it drew from."""

    def __init__(self) -> None:
        self._number: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._parents: list[tuple[int, ...]] = []
        self._has_weights: list[bool] = []
        self._is_learned: list[bool] = []  # weights had a part in it; false of what the model is given
        self._roles: list[Role] = []
        self._is_product: list[bool] = []

    def note(
        self, inputs: Iterable[Tensor], outputs: Iterable[Tensor], *, role: Role = "other", is_product: bool = False
    ) -> None:
        """An operation made these from those."""
        inputs = [] if role == "form" else list(inputs)
        parents = tuple(self._of(t) for t in inputs if not isinstance(t, nn.Parameter))
        has_weights = any(isinstance(t, nn.Parameter) for t in inputs)
        for output in outputs:
            self._name(output, parents, has_weights, role, is_product and len(parents) > 1)

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
        for shortcut, branch, index in ((first, second, 1), (second, first, 0)):
            if self._is_projected(shortcut, branch):
                return index
        return None

    def _is_projected(self, shortcut: int, branch: int) -> bool:
        """One map at most, norms and resizing lead to `shortcut` from what `branch` has more than one map from.

        Of two maps side by side neither is a shortcut, nor beside a product of maps (a change of low rank), nor of
        different pieces of one signal, as the steps of a sequence are.
        """
        at, maps, in_pieces = shortcut, 0, False
        while at not in self._ancestors(branch, down_to=at):
            role = self._roles[at]
            sources = [parent for parent in self._parents[at] if self._is_learned[parent]]
            if self._is_map(at):
                maps, sources = maps + 1, sources[:1]  # a weight may be made of others, by weight_norm for one
            elif role == "other":
                return False
            if maps > 1 or len(sources) != 1:
                return False
            at, in_pieces = sources[0], in_pieces or role == "piece"
        between = sorted(self._ancestors(branch, down_to=at))
        if in_pieces and any(self._roles[n] == "piece" and at in self._parents[n] for n in between):
            return False
        longest = {at: 0}  # maps on the way from there
        for n in between:
            ways = [longest[parent] for parent in self._parents[n] if parent in longest]
            if ways:
                longest[n] = max(ways) + self._is_map(n)
        is_bent = any(self._roles[n] == "other" and not self._is_map(n) for n in longest if n > at)
        return longest[branch] > 1 and (is_bent or not maps)

    def _is_map(self, number: int) -> bool:
        """Not so a norm, or what weighs every unit by itself."""
        role = self._roles[number]
        return role == "map" or (role == "other" and self._has_weights[number])

    def _of(self, tensor: Tensor) -> int:
        known = self._number.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        return self._name(tensor, (), False, "other", False)

    def _name(self, tensor: Tensor, parents: tuple[int, ...], has_weights: bool, role: Role, is_product: bool) -> int:
        number = len(self._parents)
        self._parents.append(parents)
        self._has_weights.append(has_weights)
        self._is_learned.append(has_weights or any(self._is_learned[parent] for parent in parents))
        self._roles.append(role)
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
