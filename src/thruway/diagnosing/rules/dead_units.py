"""Rules for ReLU units that are zero for every input: dead from the start, or dying in training.

With random weights half of the units of a layer are dead at most: for deep inputs that are all alike, a unit is active
for all of them or for none, with equal probability. The bound is that share for the measured likeness of the inputs,
plus the standard deviations of a binomial share that one of all layers exceeds in 0.1 % of networks.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Layer, Matrix, Reading, Values
from thruway.diagnosing.rules.expected_dead import are_shifted, expected_shares
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import join_names, layer_text, number, percent
from thruway.diagnosing.theory import binomial_bound, dead_share_of_units
from thruway.diagnosing.trunk import column

__all__ = ["DEAD_UNITS", "DYING_RELU"]

_RECTIFIERS = frozenset(("relu", "relu6"))
_LEAST_SHARE = 1 / 3  # fewer dead units cost capacity, but the layer works
_MOMENTS = ("mean", "std", "input_correlation")
_LEAST_DYING = 1 / 2
_SURE = 0.95  # estimate of dead units from zeros above which living units cannot explain them


@dataclass(frozen=True)
class _Layer:
    """A rectified layer: share of dead units per step (NaN if not measured), and the largest share that is usual."""

    layer: Layer
    site: str
    dead: Matrix
    bound: Matrix
    expected: Matrix


def _rectified(reading: Reading) -> list[_Layer]:
    zeros, likeness, dead = (reading.values(q) for q in ("zeros", "input_correlation", "dead_units"))
    layers = [
        layer for layer in reading.layers if layer.activation in _RECTIFIERS and layer.activation_site is not None
    ]
    suspects = _above(zeros, _SURE) | _above(dead, _LEAST_SHARE)
    shapes = {site.name: (site.shape, site.unit_dim) for site in reading.outputs}
    deviations = math.sqrt(2 * math.log(1000 * max(1, len(layers))))
    found, before = [], ""
    for layer in layers:
        site, source, before = str(layer.activation_site), before, str(layer.activation_site)
        if site not in suspects:
            continue
        of_zeros = None if zeros is None else zeros.of(site)
        shape, dim = shapes[site]
        units = shape[dim % len(shape)] if shape else 0
        # The positions of an image are alike, so they count as one sample.
        per_pass = float(shape[0] if len(shape) > 3 else math.prod(shape) / units) if units else 1.0
        share = _shares(of_zeros, None if dead is None else dead.of(site), partial(_are_dead, reading, layer, per_pass))
        if share is None:
            continue
        for quantity in ("nan", "inf"):
            bad = reading.values(quantity)
            of_site = None if bad is None else bad.of(layer.pre_activation)
            if of_site is not None:
                share = np.where(of_site > 0, np.nan, share)
        of_source = None if likeness is None else likeness.of(source)
        if of_source is None and likeness is not None and not source:
            of_source = likeness.of(layer.pre_activation)
        of_layer = None if likeness is None else likeness.of(layer.pre_activation)
        is_shifted = are_shifted(reading, layer, of_layer, units, 0.001 / max(1, len(layers)))
        expected = expected_shares(share, of_zeros, (of_source, of_layer), per_pass, is_shifted=is_shifted)
        bound = np.maximum(_LEAST_SHARE, np.minimum(binomial_bound(expected, units or 1, deviations), 1 - 1e-9))
        found.append(_Layer(layer, site, share, bound, expected))
    return found


def _above(values: Values | None, limit: float) -> set[str]:
    """Return the names of the sites whose values are above a limit at some step."""
    if values is None:
        return set()
    highest = np.fmax.reduce(values.values, axis=1)
    return {site.name for site, is_above in zip(values.sites, (highest > limit).tolist(), strict=True) if is_above}


def _shares(zeros: Matrix | None, dead: Matrix | None, confirmed: Callable[[NDArray[np.int64]], bool]) -> Matrix | None:
    """Return the share of dead units at every step, as far as it is known.

    Between two measurements it is estimated from the share of zeros: if the living units are zero as often as in the
    first step, all further zeros are those of dead units. The estimate counts only if it leaves few living units, and
    if the distribution of the pre-activations confirms it: units that are rarely active give many zeros as well.
    """
    known = np.empty(0) if zeros is None else zeros[np.isfinite(zeros)]
    if zeros is None or not len(known):
        return dead
    usual = float(known[0])
    with np.errstate(invalid="ignore"):
        estimate = np.where(zeros >= 1, 1.0, (zeros - usual) / (1 - usual) if usual < 0.75 else 0.0)
    is_sure = estimate > _SURE
    if is_sure.any() and not confirmed(np.flatnonzero(is_sure)):
        is_sure = zeros >= 1
    measured = np.where(np.isfinite(zeros), 0.0, np.nan) if dead is None else dead
    held = measured.copy()
    places = np.maximum.accumulate(np.where(np.isfinite(measured), np.arange(len(measured)), -1))
    held[places >= 0] = measured[places[places >= 0]]
    return np.where(is_sure, np.fmax(estimate, measured), np.where(np.isfinite(zeros), held, np.nan))


def _are_dead(reading: Reading, layer: Layer, samples: float, places: NDArray[np.int64]) -> bool:
    """Return True if the pre-activations of many units are negative for all inputs, at the first and at the last place
    at which their distribution was measured."""
    series = [values.of(layer.pre_activation) for q in _MOMENTS if (values := reading.values(q)) is not None]
    moments = np.array([one[places] for one in series if one is not None])
    if len(moments) < len(_MOMENTS):
        return False
    measured = moments[:, np.isfinite(moments).all(0)].T.tolist()
    numbers = measured[:1] + measured[-1:]
    return bool(numbers) and all(
        dead_share_of_units(mean, std, likeness, samples) > _LEAST_SHARE for mean, std, likeness in numbers
    )


def _find_dead(reading: Reading) -> Iterator[Finding]:
    yield from _find(reading, is_dying=False)


def _find_dying(reading: Reading) -> Iterator[Finding]:
    yield from _find(reading, is_dying=True)


def _find(reading: Reading, *, is_dying: bool) -> Iterator[Finding]:
    layers = reading.derived(_rectified)
    sick: list[tuple[_Layer, tuple[tuple[int | None, int], int | None]]] = []
    for entry in layers:
        known = np.isfinite(entry.dead)
        spell = reading.spell(entry.dead > entry.bound, known)
        if is_dying:
            # A trained layer may do without a third of its units, and one measurement of a batch is not enough.
            is_sick = (entry.dead > np.maximum(entry.bound, _LEAST_DYING)) & _have_died(entry.dead)
            spell = reading.spell(is_sick, known) if is_sick.sum() > 1 else None
        if spell is not None and (spell[0][0] is not None) == is_dying:
            sick.append((entry, spell))
    if not sick:
        return
    onset = min(spell[0][1] for _, spell in sick)
    at = int(np.searchsorted(reading.steps, onset))
    # Layers behind a dead one may be dead because of it: of those with few living units, the first one is at fault.
    sick.sort(key=lambda pair: (pair[1][0][1] > onset, -min(float(np.nan_to_num(pair[0].dead[at])), 0.9)))
    entry, (since, until) = sick[0]
    value, bound = float(entry.dead[at]), float(entry.bound[at])
    last = float(entry.dead[np.isfinite(entry.dead)][-1])
    zeros = float(column(reading, "zeros", [entry.site], at)[0])
    order = [one.layer.name for one in layers]
    names = sorted((one.layer.name for one, _ in sick), key=order.index)
    others = f" The same holds for {join_names([one.layer.name for one, _ in sick[1:]])}." if len(sick) > 1 else ""
    grown = f" At step {since[0]} the layer was still active; now {percent(last)} are." if is_dying else ""
    usual = f"with random weights it would be {percent(bound)} at most"
    usual = "with random weights some would be active" if bound > 0.99 else usual
    yield Finding(
        "dying_relu" if is_dying else "dead_units",
        f"{percent(value)} of the units of {layer_text(entry.layer.name)} are zero for every input since step "
        f"{since[1]}. {_cause(reading, entry.layer, at)}{grown}{others}",
        modules_of(reading, [one.layer.name for one, _ in sick]),
        since=since,
        evidence=(
            Evidence(
                "dead_units",
                entry.site,
                since[1],
                value,
                f"At step {since[1]} {percent(value)} of the units of {layer_text(entry.site)} are zero for "
                f"every input; {usual}.",
                "threshold",
                float(entry.expected[at]),
                bound,
            ),
            Evidence(
                "dead_units",
                entry.site,
                since[1],
                value,
                f"For inputs that are as alike as these, theory expects {percent(float(entry.expected[at]))} of the "
                "units of a layer with random weights to be zero for every input.",
                "theory",
                float(entry.expected[at]),
            ),
            Evidence(
                "zeros",
                entry.site,
                since[1],
                zeros,
                "It is not the usual half of the values of a ReLU: "
                f"{percent(zeros if math.isfinite(zeros) else value)} "
                "of the values are zero, in the same units for every input.",
                "ruled out",
                0.5,
            ),
        ),
        cures=tuple(
            CURES[name]
            for name in (
                ("lower_lr", "leaky_relu", "clip")
                if is_dying
                else ("reset_bias", "critical_init", "leaky_relu", "lower_lr")
            )
        ),
        span=(names[0], names[-1]),
        until=until,
        margin=max(1.0, value / bound),
        confidence=0.95 if value > 0.75 else 0.8,
    )


def _have_died(dead: Matrix) -> NDArray[np.bool_]:
    """Return True at the steps at which many of the units that lived at first are dead.

    Inputs that become less alike in training lower the expected share below one that has been there from the start.
    """
    known = dead[np.isfinite(dead)]
    first = float(known[0]) if len(known) else 0.0
    return np.asarray(dead > first + _LEAST_SHARE * (1 - first))


def _cause(reading: Reading, layer: Layer, at: int) -> str:
    mean, std = (float(column(reading, name, [layer.pre_activation], at)[0]) for name in ("mean", "std"))
    if not math.isfinite(mean):
        return ""
    text = f"Its pre-activations have mean {number(mean)} and standard deviation {number(std)}"
    bias = reading.values("mean", "parameter")
    of_bias = None if bias is None or layer.bias is None else bias.of(layer.bias)
    known = np.empty(0) if of_bias is None else of_bias[: at + 1][np.isfinite(of_bias[: at + 1])]
    if len(known):
        value = float(known[-1])
        if value < 0 and value < mean / 2:
            return f"{text}, because of the bias, whose mean is {number(value)}."
    if mean < -std:
        return f"{text}: far below 0, where ReLU and its slope are 0."
    return f"{text}."


def _has_rectifiers(reading: Reading) -> bool:
    return any(site.activation in _RECTIFIERS for site in reading.outputs)


_rule = partial(
    Rule,
    needs=(("dead_units", "output"),),
    advice='Record "dead_units", as by default. Layers that are zero as a whole are seen from "zeros".',
    concerns=_has_rectifiers,
)
_EFFECTS = frozenset(("vanishing_gradient", "rank_collapse", "constant_output", "lr_too_low"))
DEAD_UNITS = _rule("dead_units", _find_dead, explains=_EFFECTS | {"frozen_parameters"})
DYING_RELU = _rule("dying_relu", _find_dying, explains=_EFFECTS | {"dead_units"}, least_steps=2)
