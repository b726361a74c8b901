"""Initial weights: scale and mean of each layer, and the signal's growth. Weights around a mean other than 0."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.wording import number
from thruway.diagnosing.theory import critical_gain
from thruway.diagnosing.trunk import Trunk, column, gain_of

__all__ = ["InitialWeights", "initial_weights", "shifted_weights"]

_SHIFT = 2.0  # of the common part of the weights to the random part


@dataclass(frozen=True)
class InitialWeights:
    """The layers whose scale matters: those of the trunk without a norm after them."""

    places: NDArray[np.int64]
    gains: NDArray[np.float64]
    relative: NDArray[np.float64]  # gains divided by the critical gain of the activation
    growth: NDArray[np.float64]  # of the root mean square from the layer's input to its output


def initial_weights(reading: Reading, trunk: Trunk) -> InitialWeights:
    """Return the weights of the trunk at the first recorded step."""
    layers = trunk.layers
    gains = gain_of(reading, layers, 0)
    critical = np.array([critical_gain(None if layer is None else layer.activation) for layer in layers])
    # Layers that a norm follows may have any scale: a norm after the last sum or layer counts as well.
    is_free = np.array([layer is not None and not layer.is_normalised for layer in layers], dtype=bool)
    if len(is_free) > 1:
        is_free[:-1] &= ~trunk.normalised[1:]
    places = np.flatnonzero(is_free & np.isfinite(gains) & (gains > 0))
    sizes = _column_rms(reading, [_input_of(reading, trunk, place) for place in range(len(layers))])
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = trunk.rms[:, 0] / sizes
    return InitialWeights(places, gains, gains / critical, growth)


def _input_of(reading: Reading, trunk: Trunk, place: int) -> str:
    """Return the site whose output a layer of the trunk takes: the activation of the layer before."""
    if place == 0:
        return ""
    layer = trunk.layers[place - 1]
    return trunk.names[place - 1] if layer is None or layer.activation_site is None else layer.activation_site


def _column_rms(reading: Reading, names: list[str]) -> NDArray[np.float64]:
    """Return the root mean squares of outputs at the first step."""
    found: NDArray[np.float64] = np.hypot(column(reading, "mean", names, 0), column(reading, "std", names, 0))
    return found


def shifted_weights(reading: Reading, trunk: Trunk, weights: InitialWeights) -> tuple[Finding, ...]:
    """Return a finding if the weights of most hidden layers do not have mean 0.

    Weights with mean m and standard deviation s are a matrix m 1 1^T of rank one with gain m n, plus a random one with
    a gain of about 2 s sqrt(n). If the first is much larger, all units compute nearly the same.
    """
    hidden = [place for place in weights.places.tolist() if place > 0]
    means, deviations = reading.values("mean", "parameter"), reading.values("std", "parameter")
    if len(hidden) < 2 or means is None or deviations is None:
        return ()
    ratios = []
    for place in hidden:
        layer = trunk.layers[place]
        if layer is None or layer.weight not in means.row_of or layer.weight not in deviations.row_of:
            continue
        mean, std = float(means.of(layer.weight)[0]), float(deviations.of(layer.weight)[0])  # type: ignore[index]
        if std > 0:
            ratios.append((abs(mean) * math.sqrt(layer.fan_in) / (2 * std), place, mean, std))
    sick = sorted((entry for entry in ratios if entry[0] > _SHIFT), reverse=True)
    if len(sick) < 2 or len(sick) < len(hidden) / 2:
        return ()
    ratio, place, mean, std = sick[0]
    layer = trunk.layers[place]
    assert layer is not None
    return (
        Finding(
            "poor_init",
            f"The initial weights of {len(sick)} layers do not have mean 0: in {layer.name} they have mean "
            f"{number(mean)} and "
            f"standard deviation {number(std)}, so all its units compute nearly the same sum of their "
            f"{layer.fan_in} inputs.",
            modules_of(reading, [trunk.names[entry[1]] for entry in sick]),
            since=(None, int(reading.steps[0])),
            evidence=(
                Evidence(
                    "mean",
                    layer.name,
                    int(reading.steps[0]),
                    ratio,
                    f"The common part of the weights is {number(ratio)} times as large as the random part (mean * "
                    "sqrt(fan_in) "
                    "/ (2 * std)).",
                    "threshold",
                    0.0,
                    _SHIFT,
                ),
                Evidence(
                    "mean",
                    layer.name,
                    int(reading.steps[0]),
                    mean,
                    f"All initialisation schemes draw weights with mean 0: of {layer.fan_in} weights it would be about "
                    f"{number(std / math.sqrt(layer.fan_in))}.",
                    "theory",
                    0.0,
                ),
                Evidence(
                    "mean",
                    layer.name,
                    int(reading.steps[0]),
                    mean,
                    f"Training did not shift them: this is the first step, and {len(sick)} of {len(hidden)} layers "
                    "are shifted.",
                    "ruled out",
                ),
            ),
            cures=(CURES["critical_init"], CURES["normalise"]),
            span=(trunk.names[min(entry[1] for entry in sick)], trunk.names[max(entry[1] for entry in sick)]),
            margin=ratio / _SHIFT,
            confidence=0.85,
        ),
    )
