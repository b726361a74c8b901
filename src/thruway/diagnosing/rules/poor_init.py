"""Rule for initial weights of the wrong scale for this depth and activation.

Weights count as wrongly scaled if sigma_w = rms(weight) * sqrt(fan_in) lies outside of the range of the schemes in use,
and if signals or gradients suffer from it. The schemes range from PyTorch's default for linear layers, 1/sqrt(3), to
He's sqrt(2). Half of the lowest is left for layers whose numbers of inputs and outputs differ, and 5/3, PyTorch's gain
of tanh, times the critical value of the activation.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.exploding_gradient import allowed
from thruway.diagnosing.rules.flow import geometric_mean, modules_of
from thruway.diagnosing.rules.initial_weights import InitialWeights, initial_weights, shifted_weights
from thruway.diagnosing.rules.normed_weights import normed_weights
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.vanishing_gradient import VANISHING_RATIO
from thruway.diagnosing.rules.wording import layer_text, number, part, percent
from thruway.diagnosing.trunk import Trunk, column, trunk_of

__all__ = ["POOR_INIT"]

_LARGE = 1.75  # times the critical value, above the gain of 5/3 for tanh
_LOWEST, _HIGHEST = 1 / math.sqrt(3) / 2, _LARGE * math.sqrt(2)
_JUMP = 10.0  # of the size of the signal in one layer, where a layer in use changes it by less than 2
_LOST = 1e-4  # share of the signal that depends on the input
_GROWTH = 30.0  # of the size of the signal over all layers, where it should stay the same


def _find(reading: Reading) -> Iterator[Finding]:
    if reading.steps[0] != 0:
        return
    trunk = reading.derived(trunk_of)
    weights = initial_weights(reading, trunk)
    found: tuple[Finding, ...] = ()
    if len(weights.places):
        found = _whole(reading, trunk, weights) or _single(reading, trunk, weights)
        found = found or shifted_weights(reading, trunk, weights)
    yield from found or normed_weights(reading, _HIGHEST)


def _whole(reading: Reading, trunk: Trunk, weights: InitialWeights) -> tuple[Finding, ...]:
    """Return a finding if the layers as a whole have the wrong scale."""
    hidden = weights.places[weights.places < len(trunk.names) - 1]
    if len(hidden) < 2 or trunk.is_branched:
        return ()
    gain, relative = float(np.median(weights.gains[hidden])), float(np.median(weights.relative[hidden]))
    is_large = relative > _LARGE and gain > _LARGE
    is_small = relative < 0.5 and gain < _LOWEST
    if not (is_large or is_small):
        return ()
    harm = _harm(reading, trunk, weights, is_large=is_large)
    if harm is None:
        return ()
    return (_finding(reading, trunk, weights, hidden, harm, gain, is_large=is_large, is_whole=True),)


def _single(reading: Reading, trunk: Trunk, weights: InitialWeights) -> tuple[Finding, ...]:
    """Return a finding if one layer, or a few, have another scale than the rest."""
    usual = geometric_mean(np.clip(weights.gains[weights.places], _LOWEST, _HIGHEST))
    found = []
    for place in weights.places.tolist():
        gain, is_last = weights.gains[place], place == len(trunk.names) - 1
        grows = weights.growth[place]
        is_large = (
            gain > max(_HIGHEST, _JUMP * min(usual, weights.gains[place] / weights.relative[place]))
            and not grows < _JUMP
        )
        # A last layer may start near zero. A layer inside of a chain must pass the gradient.
        is_small = gain < min(_LOWEST, usual) / (2 * _JUMP) and not is_last and not trunk.is_branched
        if is_large or is_small:
            found.append((abs(math.log(weights.relative[place])), place, is_large))
    if not found:
        return ()
    found.sort(reverse=True)
    _, place, is_large = found[0]
    places = np.array([entry[1] for entry in found], dtype=np.int64)
    growth = float(weights.growth[place])
    text = (
        f"It multiplies the signal by {number(growth)}."
        if math.isfinite(growth)
        else f"It multiplies the signal by about {number(float(weights.gains[place]))}."
    )
    gain = float(weights.gains[place])
    return (_finding(reading, trunk, weights, places, text, gain, is_large=is_large, is_whole=False),)


def _harm(reading: Reading, trunk: Trunk, weights: InitialWeights, *, is_large: bool) -> str | None:
    """Return the effect on signals or gradients at the first step in one sentence; None without an effect."""
    if is_large:
        rise, first, last = trunk.rise()
        if rise[0] > allowed(trunk):
            return (
                f"The gradient grows {number(math.exp(min(rise[0], 600)))} times from "
                f"{layer_text(trunk.names[int(last[0])])} back to {layer_text(trunk.names[int(first[0])])}."
            )
        sites = [
            layer.activation_site
            for layer in trunk.layers[:-1]
            if layer is not None and layer.activation_site is not None
        ]
        share = column(reading, "saturation", [site for site in sites], 0)
        bounded = [
            layer.activation in ("tanh", "sigmoid", "softsign", "hardtanh")
            for layer in trunk.layers[:-1]
            if layer is not None and layer.activation_site is not None
        ]
        share = share[np.array(bounded, dtype=bool)] if len(bounded) else share
        if np.isfinite(share).any() and np.nanmean(share) > 0.5:
            return f"{percent(float(np.nanmean(share)))} of the values of the activations are saturated."
        growth = trunk.rms[-1, 0] / trunk.rms[0, 0] if trunk.rms[0, 0] > 0 else math.nan
        if growth > _GROWTH or (growth > 1 and trunk.rms[-1, 0] > _GROWTH * _GROWTH):
            return (
                f"The signal grows {number(growth)} times from {layer_text(trunk.names[0])} to "
                f"{layer_text(trunk.names[-1])}."
            )
        return None
    drop, first, last = trunk.drop()
    if drop[0] < math.log(VANISHING_RATIO):
        return (
            f"The gradient falls to {number(math.exp(max(drop[0], -600)))} of its size from "
            f"{layer_text(trunk.names[int(last[0])])} back to {layer_text(trunk.names[int(first[0])])}."
        )
    alike = column(reading, "input_correlation", [trunk.names[-1]], 0)
    if 1 - alike[0] < _LOST:
        lost = part(max(0.0, float(1 - alike[0])))
        return f"Of the signal at {layer_text(trunk.names[-1])}, {lost} depends on the input."
    return None


def _finding(
    reading: Reading,
    trunk: Trunk,
    weights: InitialWeights,
    places: NDArray[np.int64],
    harm: str,
    gain: float,
    *,
    is_large: bool,
    is_whole: bool,
) -> Finding:
    ordered = sorted(places.tolist(), key=lambda place: -abs(math.log(weights.relative[place])))
    worst = ordered[0]
    layer = trunk.layers[worst]
    assert layer is not None  # only layers have weights
    critical = float(weights.gains[worst] / weights.relative[worst])
    limit = _LARGE * max(critical, 1.0) if is_large else min(_LOWEST, critical / 2)
    parameter = next(p for p in reading.parameters if p.name == layer.weight)
    std = float(parameter.norm[np.isfinite(parameter.norm)][0] / math.sqrt(math.prod(parameter.shape)))
    right = critical / math.sqrt(layer.fan_in)
    who = (
        f"The initial weights of {len(places)} layers are"
        if is_whole
        else f"The initial weights of {layer_text(layer.name)} are"
    )
    usual = number(math.sqrt(2)) if critical > 1.2 else "1"
    return Finding(
        "poor_init",
        f"{who} too {'large' if is_large else 'small'} for {len(trunk.names)} layers of "
        f"{layer.activation or 'linear units'}: std {number(std)} with {layer.fan_in} inputs, where about "
        f"{number(right)} "
        f"(= {number(critical)} / sqrt({layer.fan_in})) preserves signals and gradients. {harm}",
        modules_of(reading, [trunk.names[place] for place in ordered]),
        since=(None, int(reading.steps[0])),
        evidence=(
            Evidence(
                "sigma_w",
                layer.name,
                int(reading.steps[0]),
                gain,
                f"std(weight) * sqrt(fan_in) is {number(gain)}{' in the median' if is_whole else ''}; the usual "
                "schemes lie "
                f"between 0.58 (PyTorch's default) and {usual}, {'up' if is_large else 'down'} to {number(limit)} "
                "is allowed.",
                "threshold",
                critical,
                limit,
            ),
            Evidence(
                "sigma_w",
                layer.name,
                int(reading.steps[0]),
                gain,
                f"Mean field theory: at {number(critical)} neither signals nor gradients grow or shrink with depth.",
                "theory",
                critical,
            ),
            Evidence(
                "growth",
                layer.name,
                int(reading.steps[0]),
                float(np.nan_to_num(weights.growth[worst], nan=gain)),
                "No norm or skip connection makes the scale harmless: none follows this layer before the next one.",
                "ruled out",
                1.0,
            ),
        ),
        cures=tuple(CURES[name] for name in ("critical_init", "normalise", "skip")),
        span=(trunk.names[int(min(places))], trunk.names[int(max(places))]),
        margin=max(1.0, gain / limit if is_large else limit / gain),
        confidence=0.95,
    )


_EFFECTS = (
    "vanishing_gradient exploding_gradient exploding_activation saturated dead_units dying_relu "
    "rank_collapse constant_output diverging nan_or_inf lr_too_high lr_too_low gates_open gates_shut"
)

POOR_INIT = Rule(
    "poor_init",
    _find,
    needs=(("norm", "parameter"),),
    explains=frozenset(_EFFECTS.split()),
    advice="Pass optimizer= to watch, and record the first step.",
    needs_start=True,
)
