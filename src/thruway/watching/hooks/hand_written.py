"""Activation functions that a model's own code computes as x * g(x), and the functions inside of them.

The tanh in 0.5 * x * (1 + tanh(0.8 * (x + 0.045 * x**3))), which is GELU, is no activation of the network: its flat
parts are not flat parts of GELU. The same holds for the sigmoid in x * sigmoid(x), which is SiLU and no gate.
"""

from collections.abc import Iterator

from thruway.watching.hooks.lineage import Lineage
from thruway.watching.quantities.collector import Collector
from thruway.watching.sites import Site

__all__ = ["inner_activations", "unmark_inner_activations"]

# The most operations visited for one product: a hand-written activation has about ten.
_MAX_VISITED = 64


def inner_activations(lineage: Lineage) -> Iterator[Site]:
    """Iterate over the sites of activations of which the pass used the result only as a part of some x * g(x).

    Every operation of g acts on single values, and g has no other input that was computed from weights. Gates have one:
    in x * sigmoid(W x) and in both halves of a gated linear unit, the sigmoid stays an activation.
    """
    children: dict[int, list[int]] = {}
    for number, parents in enumerate(lineage.parents):
        for parent in parents:
            children.setdefault(parent, []).append(number)
    for product, is_product in enumerate(lineage.is_product):
        if is_product and len(lineage.parents[product]) == 2:
            inside = _operations_inside(lineage, *lineage.parents[product])
            for number in inside:
                site = lineage.activations.get(number)
                # A ReLU is zero for the same units as the product, so it stays.
                if site is not None and site.activation != "relu" and _is_used_only(number, children, inside, product):
                    yield site


def unmark_inner_activations(lineage: Lineage, collector: Collector) -> None:
    """Mark the sites of `inner_activations` as no activations, and drop their shares of saturated values."""
    for site in inner_activations(lineage):
        site.activation, site.is_gate, site.group, site.gate_role = None, False, None, None
        collector.discard([site], only_of_activations=True)


def _operations_inside(lineage: Lineage, a: int, b: int) -> set[int]:
    """Return the operations of g if a * b = x * g(x), in any order and with factors; an empty set otherwise."""
    for factor, other in ((a, b), (b, a)):
        near = _near(lineage, other)
        source: int | None = factor
        while source is not None:
            if source in near and (inside := _between(lineage, source, near)):
                return inside
            source = _unscaled(lineage, source)
    return set()


def _near(lineage: Lineage, number: int) -> set[int]:
    """Return `number` and the ancestors that are reached through operations on single values, and those alone."""
    found, waiting = set[int](), [number]
    while waiting and len(found) < _MAX_VISITED:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            if _is_pointwise(lineage, at):
                waiting.extend(lineage.parents[at])
    return found


def _between(lineage: Lineage, source: int, near: set[int]) -> set[int]:
    """Return the descendants of `source` in `near`, or an empty set if they have another input or mix units."""
    inside: set[int] = set()
    for number in sorted(near):
        parents = lineage.parents[number]
        if number > source and any(parent == source or parent in inside for parent in parents):
            others = (parent for parent in parents if parent != source and parent not in inside)
            if not _is_pointwise(lineage, number) or any(lineage.is_computed[parent] for parent in others):
                return set()
            inside.add(number)
    return inside


def _is_pointwise(lineage: Lineage, number: int) -> bool:
    role = lineage.roles[number]
    return role == "scaled" or (role == "pointwise" and not lineage.has_weights[number])


def _unscaled(lineage: Lineage, number: int) -> int | None:
    """Return x for 0.5 * x."""
    if lineage.roles[number] != "scaled" or lineage.has_weights[number]:
        return None
    parents = lineage.parents[number]
    computed = [parent for parent in parents if lineage.is_computed[parent]] or parents
    return computed[0] if len(computed) == 1 else None


def _is_used_only(number: int, children: dict[int, list[int]], inside: set[int], product: int) -> bool:
    """Return True if the results of `number` inside of g have no other use than the product."""
    waiting = [number]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child in inside:
                waiting.append(child)
            elif child != product:
                return False
    return True
