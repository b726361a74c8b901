"""Rules for ReLU units that are zero for every input: dead from the start, or dying in training.

With random weights half of the units of a layer are dead at most: for deep inputs that are all alike, a unit is active
for all of them or for none, with equal probability. The bound is that share for the measured likeness of the inputs,
plus three standard deviations of a binomial share.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Layer, Matrix, Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import join_names, number, percent
from thruway.diagnosing.theory import binomial_bound, dead_share
from thruway.diagnosing.trunk import column

__all__ = ["DEAD_UNITS", "DYING_RELU"]

_RECTIFIERS = frozenset(("relu", "relu6"))
_WINDOW = 50  # passes over which the quantity dead_units looks back
_LEAST_SAMPLES = 512
_LEAST_SHARE = 1 / 3  # fewer dead units cost capacity, but the layer works


@dataclass(frozen=True)
class _Layer:
    """A rectified layer: share of dead units per step (NaN if not measured), and the largest share that is usual."""

    layer: Layer
    site: str
    dead: Matrix
    bound: Matrix
    expected: Matrix


def _rectified(reading: Reading) -> list[_Layer]:
    zeros, dead, likeness = (reading.values(name) for name in ("zeros", "dead_units", "input_correlation"))
    shapes = {site.name: (site.shape, site.unit_dim) for site in reading.outputs}
    found = []
    for layer in reading.layers:
        if layer.activation not in _RECTIFIERS or layer.activation_site is None:
            continue
        site = layer.activation_site
        share = _shares(reading, site)
        if share is None:
            continue
        shape, dim = shapes[site]
        units = shape[dim % len(shape)] if shape else 0
        per_pass = math.prod(shape) / units if units else 0.0
        of_input = None if likeness is None else likeness.of(layer.pre_activation)
        bound, expected = np.full(len(share), np.nan), np.full(len(share), np.nan)
        known = np.flatnonzero(np.isfinite(share))
        for count, at in enumerate(known):
            passes = min(_WINDOW, count + 1)
            samples = per_pass * passes
            if samples < _LEAST_SAMPLES or of_input is None or not np.isfinite(of_input[at]):
                expected[at] = 0.5
            else:
                expected[at] = _expected(round(float(of_input[at]), 3), samples)
            bound[at] = max(_LEAST_SHARE, min(binomial_bound(expected[at], units or 1), 1 - 1e-9))
        found.append(_Layer(layer, site, share, bound, expected))
    return found


def _shares(reading: Reading, site: str) -> Matrix | None:
    """Return the share of dead units where it was measured; where not, 1 if every value of the layer is zero."""
    zeros, dead = reading.values("zeros"), reading.values("dead_units")
    of_zeros = None if zeros is None else zeros.of(site)
    of_dead = None if dead is None else dead.of(site)
    if of_zeros is None and of_dead is None:
        return None
    if of_dead is None:
        # Values that are zero in all passes: a unit that is zero for most inputs is not dead.
        return np.where(of_zeros >= 1, 1.0, np.where(np.isfinite(of_zeros), 0.0, np.nan))
    found = of_dead.copy()
    if of_zeros is not None:
        # Between two measurements of dead units, the share of zeros is an upper limit of the share of dead units.
        found = np.where(np.isnan(found) & np.isfinite(of_zeros), np.where(of_zeros >= 1, 1.0, np.nan), found)
    return found


_KEPT: dict[tuple[float, float], float] = {}


def _expected(correlation: float, samples: float) -> float:
    key = correlation, samples
    if key not in _KEPT:
        _KEPT[key] = dead_share(correlation, samples)
    return _KEPT[key]


def _find_dead(reading: Reading) -> Iterator[Finding]:
    yield from _find(reading, is_dying=False)


def _find_dying(reading: Reading) -> Iterator[Finding]:
    yield from _find(reading, is_dying=True)


def _find(reading: Reading, *, is_dying: bool) -> Iterator[Finding]:
    layers = _rectified(reading)
    sick: list[tuple[_Layer, tuple[tuple[int | None, int], int | None]]] = []
    for entry in layers:
        known = np.isfinite(entry.dead)
        spell = reading.spell(entry.dead > entry.bound, known)
        if spell is not None and (spell[0][0] is not None) == is_dying:
            sick.append((entry, spell))
    if not sick:
        return
    onset = min(spell[0][1] for _, spell in sick)
    at = int(np.searchsorted(reading.steps, onset))
    sick.sort(key=lambda pair: (pair[1][0][1] > onset, -float(np.nan_to_num(pair[0].dead[at]))))
    entry, (since, until) = sick[0]
    value, bound = float(entry.dead[at]), float(entry.bound[at])
    last = float(entry.dead[np.isfinite(entry.dead)][-1])
    zeros = float(column(reading, "zeros", [entry.site], at)[0])
    order = [one.layer.name for one in layers]
    names = sorted((one.layer.name for one, _ in sick), key=order.index)
    others = f" The same holds for {join_names([one.layer.name for one, _ in sick[1:]])}." if len(sick) > 1 else ""
    grown = f" At step {since[0]} the layer was still active; now {percent(last)} are." if is_dying else ""
    yield Finding(
        "dying_relu" if is_dying else "dead_units",
        f"{percent(value)} of the units of {entry.layer.name} are zero for every input since step {since[1]}. "
        f"{_cause(reading, entry.layer, at)}{grown}{others}",
        modules_of(reading, [one.layer.name for one, _ in sick]),
        since,
        (
            Evidence(
                "dead_units", entry.site, since[1], value,
                f"At step {since[1]} {percent(value)} of the units of {entry.site} are zero for every input; with random "
                f"weights it would be {percent(bound)} at most.",
                "threshold", float(entry.expected[at]), bound,
            ),
            Evidence(
                "dead_units", entry.site, since[1], value,
                f"At this likeness of the inputs theory expects {percent(float(entry.expected[at]))} of the units to be "
                "zero for every input, and never more than half.",
                "theory", float(entry.expected[at]),
            ),
            Evidence(
                "zeros", entry.site, since[1], zeros,
                f"It is not the usual half of the values of a ReLU: {percent(zeros if math.isfinite(zeros) else value)} "
                "of the values are zero, in the same units for every input.",
                "ruled out", 0.5,
            ),
        ),
        tuple(CURES[name] for name in (("lower_lr", "leaky_relu", "clip") if is_dying else ("reset_bias", "critical_init", "leaky_relu", "lower_lr"))),
        (names[0], names[-1]),
        until,
        margin=max(1.0, value / bound),
        confidence=0.95 if value > 0.75 else 0.8,
    )


def _cause(reading: Reading, layer: Layer, at: int) -> str:
    mean, std = (float(column(reading, name, [layer.pre_activation], at)[0]) for name in ("mean", "std"))
    if not math.isfinite(mean):
        return ""
    text = f"Its pre-activations have mean {number(mean)} and standard deviation {number(std)}"
    bias = reading.values("mean", "parameter")
    of_bias = None if bias is None or layer.bias is None else bias.of(layer.bias)
    if of_bias is not None and np.isfinite(of_bias[: at + 1]).any():
        value = float(of_bias[: at + 1][np.isfinite(of_bias[: at + 1])][-1])
        if value < 0 and value < mean / 2:
            return f"{text}, because of the bias, whose mean is {number(value)}."
    if mean < -std:
        return f"{text}: far below 0, where ReLU and its slope are 0."
    return f"{text}."


DEAD_UNITS = Rule(
    "dead_units",
    _find_dead,
    needs=(("dead_units", "output"),),
    explains=frozenset(("vanishing_gradient", "rank_collapse", "constant_output", "lr_too_low", "frozen_parameters")),
    advice='Record "dead_units", as by default. Layers that are zero as a whole are seen from "zeros".',
)
DYING_RELU = Rule(
    "dying_relu",
    _find_dying,
    needs=(("dead_units", "output"),),
    explains=frozenset(("dead_units", "vanishing_gradient", "rank_collapse", "constant_output", "lr_too_low")),
    advice='Record "dead_units", as by default. Layers that are zero as a whole are seen from "zeros".',
)
