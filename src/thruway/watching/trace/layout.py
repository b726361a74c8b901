"""How the numbers of one sampled step lie in one vector: worked out once, as steps are laid out alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.watching.quantities.collector import Measured
from thruway.watching.sites import Kind, Site

__all__ = ["Layout", "layout_key", "pack"]

Key = tuple[tuple[str, tuple[Site, ...]], ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """For every kind of site and quantity: the sites in the order of the network, and where their numbers lie.

    `ratios` are derived at reading: name of the quantity -> (sites, numerator's positions, denominator's positions);
    positions come in pairs (mean, std) for root mean squares, or single for norms.
    """

    size: int
    places: Mapping[tuple[Kind, str], tuple[tuple[Site, ...], NDArray[np.int64]]]
    has_parts: bool  # a site was measured more than once

    @classmethod
    def of(cls, key: Key) -> "Layout":
        """The layout of numbers packed in this order."""
        found: dict[tuple[Kind, str], list[tuple[int, Site, int]]] = {}
        position = 0
        for name, sites in key:
            for site in sites:
                found.setdefault((site.kind, name), []).append((site.order, site, position))
                position += 1
        places = {}
        for which, entries in found.items():
            entries.sort(key=lambda entry: entry[0])
            places[which] = tuple(s for _, s, _ in entries), np.array([p for _, _, p in entries], dtype=np.int64)
        return cls(position, places, any(len(set(sites)) < len(sites) for sites, _ in places.values()))

    def position(self, kind: Kind, quantity: str) -> dict[str, int]:
        """Where each site's number lies, by the site's name."""
        sites, positions = self.places.get((kind, quantity), ((), np.empty(0, dtype=np.int64)))
        return {site.name: int(p) for site, p in zip(sites, positions, strict=True)}


def layout_key(measured: Sequence[Measured]) -> Key:
    """What tells two layouts apart."""
    return tuple((m.quantity.name, m.sites) for m in measured)


def pack(measured: Sequence[Measured]) -> NDArray[np.floating]:
    """All numbers in one vector, in the narrowest type that holds them."""
    return np.concatenate([m.values for m in measured]) if measured else np.empty(0, dtype=np.float32)
