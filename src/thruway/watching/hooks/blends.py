"""Roles of gates in a sum of two products: which operand a gate multiplies, the older signal or the newer one.

In t * h + (1 - t) * x and in c * x + (1 - c) * h alike, h was computed from x. The gate t takes the newer signal at
1, and c at 0. In f * c + i * g, as in an LSTM, each gate has one product of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from thruway.watching.hooks.lineage import Lineage
from thruway.watching.sites import GateRole, Site

__all__ = ["mark_gate_of_blend", "mark_gate_roles"]

_MOST_STEPS = 3  # from a gate to its complement: 1 - t, or -t + 1


class _Factor(NamedTuple):
    """A product of a gate, or of its complement, with a value."""

    gate: int
    is_complement: bool
    value: int


def mark_gate_roles(lineage: Lineage) -> None:
    """Set `gate_role` of the gates in the sums of one pass."""
    for total, parents in enumerate(lineage.parents):
        if len(parents) == 2 and lineage.roles[total] == "scaled" and not lineage.is_product[total]:
            for site, role in _roles(lineage, *parents):
                site.gate_role = role


def mark_gate_of_blend(lineage: Lineage | None, site: Site, end: Tensor, start: Tensor) -> None:
    """Set `gate_role` of the weight of torch.lerp(start, end, weight), in a pass with a lineage."""
    if lineage is not None:
        site.gate_role = _role(lineage, lineage.number_of(end), lineage.number_of(start), is_coupled=True)


def _role(lineage: Lineage, value: int, other: int, *, is_coupled: bool) -> GateRole | None:
    """Return the role of a gate that multiplies `value`, in a sum with a multiple of `other`; None if none is older.

    The complement of a coupled gate multiplies `other`.
    """
    if lineage.descends(other, value):
        return "carry" if is_coupled else "forget"
    if lineage.descends(value, other):
        return "transform" if is_coupled else "input"
    return None


def _roles(lineage: Lineage, a: int, b: int) -> Iterator[tuple[Site, GateRole]]:
    for one, other in ((a, b), (b, a)):
        for factor in _factors(lineage, one):
            value, rest, is_coupled = factor.value, other, True
            if lineage.is_product[other]:
                partner = _partner(factor, _factors(lineage, other))
                if partner is None:
                    continue
                rest, is_coupled = partner.value, partner.gate == factor.gate
            elif (difference := _minuend(lineage, value, other)) is not None:  # x + t * (h - x)
                value = difference
            else:
                continue
            if factor.is_complement:
                if not is_coupled:
                    continue
                value, rest = rest, value
            role = _role(lineage, value, rest, is_coupled=is_coupled)
            if role is not None:
                yield lineage.activations[factor.gate], role


def _factors(lineage: Lineage, product: int) -> list[_Factor]:
    """Return the ways to read an operation as a product of a gate with a value."""
    if not lineage.is_product[product] or len(lineage.parents[product]) != 2:
        return []
    a, b = lineage.parents[product]
    return [
        _Factor(*found, value) for gate, value in ((a, b), (b, a)) if (found := _gate_of(lineage, gate)) is not None
    ]


def _gate_of(lineage: Lineage, number: int) -> tuple[int, bool] | None:
    """Return the gate that an operation returned, or shifted and scaled to its complement, and if it did."""
    at = number
    for _ in range(_MOST_STEPS):
        site = lineage.activations.get(at)
        if site is not None:
            return (at, at != number) if site.is_gate else None
        sources = [parent for parent in lineage.parents[at] if lineage.roles[parent] != "shape"]
        is_shift = lineage.roles[at] in ("scaled", "pointwise") and not lineage.has_weights[at]
        if len(sources) != 1 or not is_shift or lineage.is_product[at]:
            return None
        at = sources[0]
    return None


def _partner(factor: _Factor, others: list[_Factor]) -> _Factor | None:
    """Return the other product of a blend: that with the complement of the same gate, or else with another gate."""
    for other in others:
        if other.gate == factor.gate and other.is_complement != factor.is_complement:
            return other
    return others[0] if len(others) == 1 and others[0].gate != factor.gate else None


def _minuend(lineage: Lineage, difference: int, other: int) -> int | None:
    """Return h if an operation computed h - x, with x = `other`."""
    parents = lineage.parents[difference]
    is_difference = lineage.roles[difference] == "scaled" and len(parents) == 2 and not lineage.is_product[difference]
    return parents[0] if is_difference and parents[1] == other else None
