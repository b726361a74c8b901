"""Numbers that follow from others at no cost to the training: one table, name -> how.

branch_ratio   rms f(x) / rms x            at every residual add
update_ratio   norm of update / norm of parameter
saturation     saturation_low + saturation_high
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.watching.registry import Registry
from thruway.watching.sites import Kind, Site
from thruway.watching.trace.layout import Layout

__all__ = ["DERIVED", "Derivation"]


@dataclass(frozen=True)
class Derivation:
    """A derived quantity for one layout: `of(numbers)` gives one value per site."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    of: Callable[[NDArray[np.floating]], NDArray[np.floating]]


def _branch_ratio(layout: Layout, registry: Registry) -> Derivation | None:
    mean, std = layout.position("output", "mean"), layout.position("output", "std")
    names = [
        name
        for name, (branch, shortcut) in registry.branches.items()
        if ("output", name) in registry.sites
        and branch in mean
        and branch in std
        and shortcut in mean
        and shortcut in std
    ]
    if not names:
        return None
    sides = np.array([[(mean[side], std[side]) for side in registry.branches[name]] for name in names])

    def ratio(numbers: NDArray[np.floating]) -> NDArray[np.floating]:
        sizes = np.hypot(numbers[sides[..., 0]], numbers[sides[..., 1]])
        return _over(sizes[:, 0], sizes[:, 1])

    return Derivation("branch_ratio", "output", tuple(registry.sites["output", name] for name in names), ratio)


def _update_ratio(layout: Layout, registry: Registry) -> Derivation | None:
    update, parameter = layout.position("update", "norm"), layout.position("parameter", "norm")
    names = [name for name in update if name in parameter]
    if not names:
        return None
    above, below = [update[name] for name in names], [parameter[name] for name in names]
    sites = tuple(registry.sites["update", name] for name in names)
    return Derivation("update_ratio", "update", sites, lambda numbers: _over(numbers[above], numbers[below]))


def _saturation(layout: Layout, registry: Registry) -> Derivation | None:
    low, high = layout.position("output", "saturation_low"), layout.position("output", "saturation_high")
    names = [name for kind, name in registry.sites if kind == "output" and (name in low or name in high)]
    if not names:
        return None
    # A place beyond the numbers holds the 0 of a flat end that an activation has not.
    ends = np.array([(low.get(name, layout.size), high.get(name, layout.size)) for name in names])
    sites = tuple(registry.sites["output", name] for name in names)
    return Derivation("saturation", "output", sites, lambda numbers: np.append(numbers, 0.0)[ends].sum(1))


DERIVED: dict[str, Callable[[Layout, Registry], Derivation | None]] = {
    "branch_ratio": _branch_ratio,
    "update_ratio": _update_ratio,
    "saturation": _saturation,
}


def _over(above: NDArray[np.floating], below: NDArray[np.floating]) -> NDArray[np.floating]:
    """above / below, NaN where below is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below == 0, np.nan, above / below)
