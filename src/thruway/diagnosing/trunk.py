"""The path of the signal from input to output: size of signals and gradients at each layer, measured and expected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.products import products
from thruway.diagnosing.reading import NORM_OPERATIONS, Layer, Matrix, Reading
from thruway.diagnosing.theory import mean_square_slope
from thruway.watching.sites import Site

__all__ = [
    "STEPS_OF_A_RECURRENCE",
    "Trunk",
    "column",
    "expected_factors",
    "gain_of",
    "module_name",
    "recurrent_names",
    "trunk_of",
    "without_call",
]

_HIGHWAYS = ("highway layer", "HighwayStack", "HighwayLinear", "HighwayConv2d")
STEPS_OF_A_RECURRENCE = 4  # a module that is called this often in one pass is a step of a recurrence
_UNDERFLOW = 1e-30  # a gradient of 0 before one this small is an underflow, not an interrupted path


@dataclass(frozen=True)
class Trunk:
    """Numbers at the layers through which every signal passes, in forward order.

    In a residual network these are the sums, not the layers inside of branches: gradients pass by the shortcuts.

    Attributes:
        names: names of the output sites.
        rms: root mean squares of the outputs, (sites, steps).
        log_gradient: natural logarithms of the norms of the gradients, (sites, steps); NaN if unknown or 0. If shapes
            are not recorded, those of the root mean squares.
        pooled: (sites,), natural logarithm of the factor by which averaging over positions may have reduced the
            gradient of later sites: 1/sqrt(n) for n positions.
        normalised: (sites,), True if there is a norm between the site and the one before.
        layers: the layer of each site, None for a sum.
        is_branched: the network has residual sums or gates.
        is_chain: False if layers may lie side by side, as the maps of queries, keys and values do in attention.
    """

    names: tuple[str, ...]
    rms: Matrix
    log_gradient: Matrix
    pooled: NDArray[np.float64]
    normalised: NDArray[np.bool_]
    layers: tuple[Layer | None, ...]
    is_branched: bool
    is_chain: bool

    @property
    def window(self) -> int:
        """Number of neighbouring sites that are compared with others, so that a single site decides nothing."""
        if self.is_chain or len(self.names) < 6:
            return 1
        return 2 if len(self.names) < 9 else 3

    def drop(self) -> tuple[Matrix, NDArray[np.int64], NDArray[np.int64]]:
        """Return the largest reduction of the gradient on its way back: log ratio, early site and late site per step.

        It is measured from the smallest of a few neighbouring late sites to the largest of a few early ones.
        """
        size = self.log_gradient + self.pooled[:, None]
        return _extreme(_windows(size, self.window, np.fmax), _windows(size, self.window, np.fmin), -1)

    def rise(self) -> tuple[Matrix, NDArray[np.int64], NDArray[np.int64]]:
        """Return the largest growth of the gradient on its way back: log ratio, early site and late site per step."""
        size = self.log_gradient
        return _extreme(_windows(size, self.window, np.fmin), _windows(size, self.window, np.fmax), 1)


def _windows(values: Matrix, width: int, join: np.ufunc) -> Matrix:
    found = values[: len(values) - width + 1].copy()
    for place in range(1, width):
        join(found, values[place : len(values) - width + 1 + place], out=found)
    return found


def _extreme(early: Matrix, late: Matrix, sign: int) -> tuple[Matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Return the largest sign * (early[i] - late[j]) over i < j for each step, with its places."""
    if len(early) < 2:
        empty = np.zeros(early.shape[1], dtype=np.int64)
        return np.full(early.shape[1], np.nan), empty, empty
    # Row by row from the end, with the smallest late value so far and its place: numbers of one row stay in the cache.
    steps = early.shape[1]
    best_late, best_gap = np.full(steps, np.inf), np.full(steps, -np.inf)
    late_place, first, last = (np.zeros(steps, dtype=np.int64) for _ in range(3))
    for row in range(len(early) - 2, -1, -1):
        candidate = sign * late[row + 1]
        is_smaller = candidate <= best_late
        best_late = np.where(is_smaller, candidate, best_late)
        late_place[is_smaller] = row + 1
        gap = sign * early[row] - best_late
        is_larger = gap >= best_gap
        best_gap = np.where(is_larger, gap, best_gap)
        first[is_larger], last[is_larger] = row, late_place[is_larger]
    return sign * np.where(np.isfinite(best_gap), best_gap, np.nan), first, last


def trunk_of(reading: Reading) -> Trunk:
    """Return the trunk of a network. Layers without a gradient are left out."""
    outputs = reading.outputs
    place = {site.name: number for number, site in enumerate(outputs)}
    repeated = reading.derived(recurrent_names)
    layers = {layer.name: layer for layer in (*reading.layers, *products(reading))}
    inside, sums = _branches(reading, place)
    gates = {site.name for site in outputs if site.is_gate}
    parents = {_parent(site.name) for site in outputs if site.is_gate and site.operation != "transform gate"} - {""}
    kept: list[int] = []
    for number, site in enumerate(outputs):
        layer = layers.get(site.name)
        is_path = site.name in sums or site.operation in _HIGHWAYS or (layer is not None and number not in inside)
        is_gate = layer is not None and (layer.activation_site in gates or _parent(site.name) in parents)
        if is_path and not is_gate and _base(site.name) not in repeated:
            kept.append(number)
    sites = [outputs[number] for number in kept]
    rms, gradient = _rows(reading, sites, "output"), _rows(reading, sites, "gradient")
    has_gradient = np.array([np.isfinite(row).any() for row in gradient], dtype=bool)
    kept = [number for number, known in zip(kept, has_gradient.tolist(), strict=True) if known]
    sites, rms, gradient = [outputs[number] for number in kept], rms[has_gradient], gradient[has_gradient]
    norms = [number for number, site in enumerate(outputs) if site.operation in NORM_OPERATIONS]
    norms_before = np.searchsorted(norms, [-1, *kept])
    return Trunk(
        tuple(site.name for site in sites),
        rms,
        _log(gradient) + _log_sizes(sites)[:, None],
        _pooled(sites),
        np.diff(norms_before) > 0,
        tuple(layers.get(site.name) if site.name not in sums else None for site in sites),
        bool(sums or gates),
        not gates and not any(site.activation == "softmax" or "ttention" in site.operation for site in outputs[:-1]),
    )


def _rows(reading: Reading, sites: list[Site], kind: str) -> Matrix:
    values = reading.rms("gradient" if kind == "gradient" else "output")
    found = np.full((len(sites), len(reading.steps)), np.nan)
    if values is not None:
        for row, site in enumerate(sites):
            of_site = values.of(site.name)
            if of_site is not None:
                found[row] = of_site
    found[~np.isfinite(found)] = np.nan
    return found


def _log(gradient: Matrix) -> Matrix:
    """Return logarithms; zeros become NaN, except those before gradients so small that they are underflows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(gradient)
    logs[~np.isfinite(logs)] = np.nan
    is_zero = gradient == 0
    if is_zero.any():
        filled = np.where(np.isnan(logs), np.inf, logs)
        for row in range(len(filled) - 2, -1, -1):  # the next site with a gradient
            filled[row] = np.where(np.isinf(filled[row]), filled[row + 1], filled[row])
        logs = np.where(is_zero & (filled < math.log(_UNDERFLOW)), math.log(1e-45), logs)
    return logs


def _log_sizes(sites: list[Site]) -> NDArray[np.float64]:
    sizes = np.array([float(np.prod(site.shape)) if site.shape else 0.0 for site in sites])
    return np.zeros(len(sites)) if not sizes.all() else 0.5 * np.log(sizes)


def _pooled(sites: list[Site]) -> NDArray[np.float64]:
    if not all(site.shape for site in sites) or not sites:
        return np.zeros(len(sites))
    positions = np.array([np.prod(site.shape) / site.shape[site.unit_dim % len(site.shape)] for site in sites])
    lost = np.maximum(0.0, 0.5 * np.log(positions[:-1] / positions[1:]))
    return np.append(np.cumsum(lost[::-1])[::-1], 0.0)


def _branches(reading: Reading, place: dict[str, int]) -> tuple[set[int], set[str]]:
    """Return the places of the sites inside of residual branches, and the names of the sums."""
    inside: set[int] = set()
    sums = {name: pair for name, pair in reading.trace.branches.items() if name in place}
    previous = -1
    for name in sorted(sums, key=lambda name: place[name]):
        branch, shortcut = sums[name]
        start = place.get(shortcut, previous)
        if start > place.get(branch, place[name]) or start > place[name]:  # a projection that is computed last
            start = previous
        inside |= set(range(start + 1, place[name]))
        previous = place[name]
    return inside - {place[name] for name in sums}, set(sums)


def recurrent_names(reading: Reading) -> frozenset[str]:
    """Return the names of the modules that are called once per time step."""
    end = f"#{STEPS_OF_A_RECURRENCE}"
    return frozenset(_base(site.name) for site in reading.outputs if end in site.name.split("[")[0])


def gain_of(reading: Reading, layers: tuple[Layer | None, ...], step: int) -> NDArray[np.float64]:
    """Return sigma_w = rms(weight) * sqrt(fan_in) of each layer at a place in `steps`; NaN if unknown."""
    parameters = {parameter.name: parameter for parameter in reading.parameters}
    found = np.full(len(layers), np.nan)
    for row, layer in enumerate(layers):
        parameter = None if layer is None or layer.weight is None else parameters[layer.weight]
        if layer is not None and parameter is not None and layer.fan_in:
            known = parameter.norm[: step + 1][np.isfinite(parameter.norm[: step + 1])]
            if len(known):
                found[row] = known[-1] * math.sqrt(layer.fan_in / math.prod(parameter.shape))
    return found


def expected_factors(reading: Reading, trunk: Trunk, step: int) -> NDArray[np.float64]:
    """Return sqrt(chi) of each layer but the first: the factor by which gradients pass it, from measured q and sigma_w.

    chi = sigma_w^2 E f'(u)^2 for u with the measured mean and standard deviation of the layer before. NaN if unknown.
    """
    gains = gain_of(reading, trunk.layers, step)
    slopes = np.full(len(trunk.names), np.nan)
    kinds = [None if layer is None else layer.activation for layer in trunk.layers]
    for kind in set(kinds):
        rows = [row for row, layer in enumerate(trunk.layers) if layer is not None and kinds[row] == kind]
        names = [trunk.layers[row].pre_activation for row in rows]  # type: ignore[union-attr]
        slopes[rows] = mean_square_slope(
            kind, column(reading, "mean", names, step), column(reading, "std", names, step)
        )
    before, after = column(reading, "std", trunk.names, step), np.full(len(trunk.names), np.nan)
    after[:] = column(
        reading,
        "std",
        [
            name if layer is None else layer.pre_activation
            for name, layer in zip(trunk.names, trunk.layers, strict=True)
        ],
        step,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        # A norm divides gradients as it does values.
        factors: NDArray[np.float64] = gains[1:] * np.sqrt(slopes[:-1]) * (after / before)[:-1]
    return factors


def column(reading: Reading, quantity: str, names: Sequence[str], step: int) -> NDArray[np.float64]:
    """Return a quantity of outputs at a place in `steps`, NaN where it was not measured."""
    values = reading.values(quantity)
    found = np.full(len(names), np.nan)
    if values is not None:
        for row, name in enumerate(names):
            at = values.row_of.get(name)
            found[row] = np.nan if at is None else values.values[at, step]
    return found


def module_name(site: Site) -> str:
    """Return the name of the module to which a site belongs: "hidden.17" for "hidden.17.tanh" and "hidden.17#2".

    >>> module_name(Site("hidden.17.tanh", "output", "tanh")), module_name(Site("act", "output", "Tanh"))
    ('hidden.17', 'act')
    """
    name = _base(site.name)
    parent, _, last = name.rpartition(".")
    return parent if parent and last.rstrip("_0123456789") == site.operation else name


def without_call(name: str) -> tuple[str, int]:
    """Return the name of a site without the numbers of calls, and the first of these, 1 if there is none.

    >>> without_call("cell.gate#9.sigmoid"), without_call("cell.gate.sigmoid"), without_call("lstm#2[0]")
    (('cell.gate.sigmoid', 9), ('cell.gate.sigmoid', 1), ('lstm[0]', 2))
    """
    head, *rest = name.split("#")
    numbers = [part[: len(part) - len(part.lstrip("0123456789"))] for part in rest]
    return head + "".join(part.lstrip("0123456789") for part in rest), int(numbers[0] or 1) if numbers else 1


def _base(name: str) -> str:
    return name.split("#")[0].split("[")[0]


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
