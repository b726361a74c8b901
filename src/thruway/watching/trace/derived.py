"""Derived quantities, which are computed from measured ones when they are read, at no cost during training.

branch_ratio   rms f(x) / rms x            at every residual add
update_ratio   norm of update / norm of parameter
saturation     saturation_low + saturation_high
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.watching.quantities.saturation import saturation
from thruway.watching.sites import Kind, Registry, Site
from thruway.watching.trace.steps import Layout

__all__ = ["DERIVED", "Derivation", "DerivedQuantity"]


@dataclass(frozen=True)
class Derivation:
    """A derived quantity for one layout. `of(numbers)` returns one value per site."""

    quantity: str
    kind: Kind
    sites: tuple[Site, ...]
    of: Callable[[NDArray[np.floating]], NDArray[np.floating]]


@dataclass(frozen=True)
class DerivedQuantity:
    """An entry of DERIVED.

    `derive` returns the derivation for a layout, or None if the layout lacks what it needs.
    """

    derive: Callable[[Layout, Registry], Derivation | None]
    needs: tuple[str, ...]  # the quantities it is computed from
    kind: Kind
    where: str  # the sites that have it, in words
    unit: str = ""
    needs_optimizer: bool = False

    def not_measured(self, name: str) -> str:
        """Return the error for a request to measure this quantity."""
        also = " and pass optimizer=" if self.needs_optimizer else ""
        return (
            f"{name!r} is derived from {self._sources()} at {self.where}, so it is not measured. Leave it out of "
            f"quantities, include {self._sources()}{also}, and read it with trace.series({name!r}, {self.kind!r}) or "
            f"trace.figure({name!r})."
        )

    def why_missing(self, name: str, *, has_kind: bool) -> str:
        """Return the reason why a trace does not have this quantity."""
        if self.needs_optimizer and not has_kind:
            return (
                f"{name!r} is derived from {self._sources()} at {self.where}, which are watched only with an "
                "optimizer. Pass optimizer= to watch."
            )
        return (
            f"{name!r} is derived from {self._sources()} at {self.where}, and this trace has none. Watch a model with "
            f"such sites, with {self._sources()} among the quantities, as by default."
        )

    def _sources(self) -> str:
        return " and ".join(map(repr, self.needs))


def _branch_ratio(layout: Layout, registry: Registry) -> Derivation | None:
    mean, std = layout.positions("output", "mean"), layout.positions("output", "std")
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
        return _divide(sizes[:, 0], sizes[:, 1])

    return Derivation("branch_ratio", "output", tuple(registry.sites["output", name] for name in names), ratio)


def _update_ratio(layout: Layout, registry: Registry) -> Derivation | None:
    update, parameter = layout.positions("update", "norm"), layout.positions("parameter", "norm")
    names = [name for name in update if name in parameter]
    if not names:
        return None
    above, below = [update[name] for name in names], [parameter[name] for name in names]
    sites = tuple(registry.sites["update", name] for name in names)
    return Derivation("update_ratio", "update", sites, lambda numbers: _divide(numbers[above], numbers[below]))


def _saturation(layout: Layout, registry: Registry) -> Derivation | None:
    low, high = layout.positions("output", "saturation_low"), layout.positions("output", "saturation_high")
    names = [name for kind, name in registry.sites if kind == "output" and (name in low or name in high)]
    if not names:
        return None
    # An activation without one of the ends reads the 0 that is appended to the numbers.
    low_at = np.array([low.get(name, layout.size) for name in names])
    high_at = np.array([high.get(name, layout.size) for name in names])
    sites = tuple(registry.sites["output", name] for name in names)

    def both(numbers: NDArray[np.floating]) -> NDArray[np.floating]:
        padded = np.append(numbers, 0.0)
        return saturation(padded[low_at], padded[high_at])

    return Derivation("saturation", "output", sites, both)


def _divide(above: NDArray[np.floating], below: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return above / below, with NaN where below is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below == 0, np.nan, above / below)


DERIVED: dict[str, DerivedQuantity] = {
    "branch_ratio": DerivedQuantity(_branch_ratio, ("mean", "std"), "output", "residual adds"),
    "update_ratio": DerivedQuantity(
        _update_ratio, ("norm",), "update", "parameters and their updates", needs_optimizer=True
    ),
    "saturation": DerivedQuantity(
        _saturation,
        ("saturation_low", "saturation_high"),
        "output",
        "outputs of saturating activations",
        unit="share of values",
    ),
}
