"""Ancestry of the tensors of one forward pass, used to find residual additions and their branches.

A residual addition joins a tensor with one of its own descendants: x + f(x), with weights in f. If the shortcut is a
projection, both operands descend from the same tensor, which the model computed: the shortcut through at most one map,
the branch through several.
"""

import weakref
from collections.abc import Iterable

from torch import Tensor, nn

from thruway.watching.operations import Role
from thruway.watching.sites import Site

__all__ = ["Lineage"]

# The most operations visited for one add: a block is tens of operations long, not thousands.
_MAX_VISITED = 2000

_NONLINEAR: tuple[Role, ...] = ("pointwise", "other")


class Lineage:
    """The operations of a pass, numbered in the order in which they ran, each with the operations that it read from."""

    def __init__(self) -> None:
        self._number: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self.activations: dict[int, Site] = {}  # sites of the results of activation functions
        self.parents: list[tuple[int, ...]] = []
        self.has_weights: list[bool] = []
        self.is_computed: list[bool] = []  # from weights, directly or not; False for the model's inputs
        self.roles: list[Role] = []
        self.is_product: list[bool] = []

    def record(
        self, inputs: Iterable[Tensor], outputs: Iterable[Tensor], *, role: Role = "other", is_product: bool = False
    ) -> None:
        """Enter an operation that computed `outputs` from `inputs`."""
        inputs = [] if role == "shape" else list(inputs)
        parents = tuple(self.number_of(t) for t in inputs if not isinstance(t, nn.Parameter))
        has_weights = any(isinstance(t, nn.Parameter) for t in inputs)
        for output in outputs:
            self._add(output, parents, has_weights, role, is_product and len(parents) > 1)

    def add_activation(self, result: Tensor, site: Site) -> None:
        """Enter the site of an activation's result."""
        self.activations[self.number_of(result)] = site

    def branch_of(self, a: Tensor, b: Tensor) -> int | None:
        """Return which operand of a + b is a residual branch, 0 or 1; None if this is not a residual addition."""
        if isinstance(a, nn.Parameter) or isinstance(b, nn.Parameter):
            return None
        first, second = self.number_of(a), self.number_of(b)
        for ancestor, descendant, branch in ((first, second, 1), (second, first, 0)):
            between = self._ancestors(descendant, down_to=ancestor)
            if ancestor in between and any(self.has_weights[n] for n in between if n > ancestor):
                return branch
        if self.is_product[first] or self.is_product[second]:
            return None  # a blend t*h + (1-t)*x
        for shortcut, branch, index in ((first, second, 1), (second, first, 0)):
            if self._is_projected(shortcut, branch):
                return index
        return None

    def descends(self, descendant: int, ancestor: int) -> bool:
        """Return True if an operation was computed from the result of another one."""
        return ancestor != descendant and ancestor in self._ancestors(descendant, down_to=ancestor)

    def _is_projected(self, shortcut: int, branch: int) -> bool:
        """Return True if `shortcut` is a projection of a tensor that `branch` passes through more than one map.

        A projection contains at most one map, in addition to norms and resizing. Two parallel maps are not a shortcut
        and a branch, and neither are a map and a product of maps (a low-rank update), or different pieces of one
        signal, such as the steps of a sequence.
        """
        at, maps, in_pieces = shortcut, 0, False
        while at not in self._ancestors(branch, down_to=at):
            role = self.roles[at]
            sources = [parent for parent in self.parents[at] if self.is_computed[parent]]
            if self._is_map(at):
                maps, sources = maps + 1, sources[:1]  # a weight may itself be computed, for example by weight_norm
            elif role in _NONLINEAR:
                return False
            if maps > 1 or len(sources) != 1:
                return False
            at, in_pieces = sources[0], in_pieces or role == "piece"
        between = sorted(self._ancestors(branch, down_to=at))
        if in_pieces and any(self.roles[n] == "piece" and at in self.parents[n] for n in between):
            return False
        longest = {at: 0}  # the most maps on a way from `at` to each operation
        for n in between:
            ways = [longest[parent] for parent in self.parents[n] if parent in longest]
            if ways:
                longest[n] = max(ways) + self._is_map(n)
        is_nonlinear = any(self.roles[n] in _NONLINEAR and not self._is_map(n) for n in longest if n > at)
        return longest[branch] > 1 and (is_nonlinear or not maps)

    def _is_map(self, number: int) -> bool:
        """Return True for an operation that mixes units by weights, False for a norm or a weight per unit."""
        role = self.roles[number]
        return role == "map" or (role in _NONLINEAR and self.has_weights[number])

    def number_of(self, tensor: Tensor) -> int:
        """Return the number of the operation that computed a tensor."""
        known = self._number.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        return self._add(tensor, (), False, "other", False)

    def _add(self, tensor: Tensor, parents: tuple[int, ...], has_weights: bool, role: Role, is_product: bool) -> int:
        number = len(self.parents)
        self.parents.append(parents)
        self.has_weights.append(has_weights)
        self.is_computed.append(has_weights or any(self.is_computed[parent] for parent in parents))
        self.roles.append(role)
        self.is_product.append(is_product)
        self._number[id(tensor)] = (weakref.ref(tensor), number)
        return number

    def _ancestors(self, number: int, down_to: int = 0) -> set[int]:
        """Return `number` and its ancestors whose number is at least `down_to`."""
        found, waiting = set[int](), [number]
        while waiting and len(found) < _MAX_VISITED:
            at = waiting.pop()
            if at >= down_to and at not in found:
                found.add(at)
                waiting.extend(self.parents[at])
        return found
