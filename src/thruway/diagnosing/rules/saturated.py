"""Rule for saturated activations: hidden layers whose values lie on the flat parts of their activation."""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Layer, Matrix, Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.loss_history import loss_history
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.saturated_sites import find_lost_in_saturation
from thruway.diagnosing.rules.saturated_steps import find_saturated_steps
from thruway.diagnosing.rules.wording import layer_text, number, percent
from thruway.diagnosing.theory import critical_gain, mean_square_slope, saturated_shares
from thruway.diagnosing.trunk import column, gain_of, recurrent_names

__all__ = ["SATURATED"]

# Activations that are flat at both ends. Those of ReLU-like ones are the subject of dead_units.
_BOUNDED = frozenset(("tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid"))
# With more than half of the values saturated, a layer passes less than it stops; features that a network learns may be
# saturated more often, because they are nearly binary.
_AT_START, _LEARNT = 0.5, 0.9
_LITTLE, _LEAST_LOSSES = 0.3, 20  # relative fall of the loss, and number of losses


def _find(reading: Reading) -> Iterator[Finding]:
    low, high = reading.values("saturation_low"), reading.values("saturation_high")
    if low is None or high is None:
        return
    recurrent = reading.derived(recurrent_names)
    layers = [layer for layer in _hidden(reading) if layer.name.split("#")[0] not in recurrent]
    layers = [layer for layer in layers if layer.activation_site in low.row_of or layer.activation_site in high.row_of]
    sick: list[tuple[Layer, Matrix, tuple[tuple[int | None, int], int | None], float]] = []
    for layer in layers:
        site = str(layer.activation_site)
        parts = [values.of(site) for values in (low, high)]
        share = np.sum([np.zeros(len(reading.steps)) if part is None else part for part in parts], axis=0)
        known = np.isfinite(share)
        is_last = layer.name == reading.layers[-1].name
        for limit in (_LEARNT,) if is_last else (_AT_START, _LEARNT):
            spell = reading.spell(share > limit, known)
            # What holds since the first step was not learnt.
            if spell is not None and (limit == _LEARNT or spell[0][0] is None):
                sick.append((layer, share, spell, limit))
                break
    if not sick:
        yield from find_lost_in_saturation(reading)
        yield from find_saturated_steps(reading)
        return
    onset = min(spell[0][1] for _, _, spell, _ in sick)
    at = int(np.searchsorted(reading.steps, onset))
    sick.sort(key=lambda entry: (entry[2][0][1] > onset, -float(np.nan_to_num(entry[1][at]))))
    layer, share, (since, until), limit = sick[0]
    site = str(layer.activation_site)
    value = float(share[at])
    low_share, high_share = (
        float(column(reading, name, [site], at)[0]) for name in ("saturation_low", "saturation_high")
    )
    low_share, high_share = (0.0 if math.isnan(part) else part for part in (low_share, high_share))
    end: Literal["low", "high"] = "low" if low_share >= high_share else "high"
    order = [entry.name for entry in layers]
    is_output = layer.name == reading.layers[-1].name
    names = sorted((entry[0].name for entry in sick), key=order.index)
    yield Finding(
        "saturated",
        f"{percent(value)} of the values of {layer.activation} after {layer_text(layer.name)} are saturated "
        f"({percent(low_share)} at the low end, {percent(high_share)} at the high end)"
        f"{f', and more than {percent(limit)} in {len(sick)} layers' if len(sick) > 1 else ''}. "
        f"{_cause(reading, layer, at)}",
        modules_of(reading, [entry[0].name for entry in sick]),
        since=since,
        evidence=(
            Evidence(
                "saturation",
                site,
                since[1],
                value,
                f"At step {since[1]} {percent(value)} of the values of {layer_text(site)} are saturated"
                f"{', since the first recorded step' if since[0] is None else ''}; up to {percent(limit)} is usual.",
                "threshold",
                _expected_at_unit_variance(layer.activation),
                limit,
            ),
            _theory(reading, layer, site, value, since[1], at),
            Evidence(
                "saturation",
                site,
                since[1],
                value,
                f"It is no gate, and no output unit of a network that is sure of its answers: "
                f"{layer_text(layer.name)} is "
                f"{'the output layer of a run that does not learn' if is_output else 'a hidden layer'}"
                f"{', and before training no feature is learnt' if since[0] is None else ''}.",
                "ruled out",
            ),
        ),
        cures=tuple(CURES[name] for name in _cures(reading, layer, at, since[0] is None)),
        span=(names[0], names[-1]),
        until=until,
        end=end,
        margin=max(1.0, value / limit),
        confidence=0.9 if value > 0.7 else 0.75,
    )


def _hidden(reading: Reading) -> list[Layer]:
    """Return the layers with a bounded activation that is followed by another layer, and is not a gate."""
    gates = {site.name for site in reading.outputs if site.is_gate}
    layers = reading.layers
    last = len(layers) - 1 if not _learns_nothing(reading) else len(layers)
    return [
        layer
        for place, layer in enumerate(layers)
        if place < last and layer.activation in _BOUNDED and layer.activation_site not in gates
    ]


def _learns_nothing(reading: Reading) -> bool:
    """Return True if the loss hardly falls. Only then may saturated output units be a fault: those of a classifier that
    is sure of its outputs are saturated as well."""
    history = loss_history(reading)
    return history is not None and len(history.finite) >= _LEAST_LOSSES and history.relative_fall < _LITTLE


def _expected_at_unit_variance(activation: str | None) -> float:
    low, high = saturated_shares(activation, np.zeros(1), np.ones(1))
    return float(low[0] + high[0])


def _cause(reading: Reading, layer: Layer, at: int) -> str:
    mean, std = (float(column(reading, name, [layer.pre_activation], at)[0]) for name in ("mean", "std"))
    gain = float(gain_of(reading, (layer,), at)[0])
    critical = critical_gain(layer.activation)
    text = f"Its inputs have mean {number(mean)} and standard deviation {number(std)}"
    bias = mean_of_bias(reading, layer, at)
    if abs(mean) > 2 * std and math.isfinite(bias) and abs(bias) > abs(mean) / 2:
        return f"{text}: they are shifted to one side by the bias, whose mean is {number(bias)}."
    if abs(mean) > 2 * std:
        return f"{text}: they are shifted to one side, by inputs or weights whose mean is not 0."
    if gain > 2 * critical:
        return (
            f"{text}, because the weights are too large: std(weight) * sqrt(fan_in) is {number(gain)} instead of about "
            f"{number(critical)}."
        )
    return f"{text}; about 1 would keep {layer.activation} in its steep part."


def mean_of_bias(reading: Reading, layer: Layer, at: int) -> float:
    """Return the mean of the bias at a place in `steps`, or the last one measured before; NaN if unknown."""
    values = reading.values("mean", "parameter")
    row = None if values is None or layer.bias is None else values.of(layer.bias)
    known = np.empty(0) if row is None else row[: at + 1][np.isfinite(row[: at + 1])]
    return float(known[-1]) if len(known) else math.nan


def _cures(reading: Reading, layer: Layer, at: int, is_initial: bool) -> tuple[str, ...]:
    """Return cures for what shifts or widens the inputs of the activation."""
    if not is_initial:  # the first step was in order, so the initial weights and the scale of the inputs are
        return "lower_lr", "clip", "normalise"
    mean, std = (float(column(reading, name, [layer.pre_activation], at)[0]) for name in ("mean", "std"))
    bias = mean_of_bias(reading, layer, at)
    if abs(mean) > 2 * std and abs(bias) > abs(mean) / 2:
        return "reset_bias", "critical_init"
    if layer.name == reading.layers[0].name:
        return "scale_input", "critical_init", "normalise"
    return "critical_init", "normalise"


def _theory(reading: Reading, layer: Layer, site: str, value: float, step: int, at: int) -> Evidence:
    mean, std = column(reading, "mean", [layer.pre_activation], at), column(reading, "std", [layer.pre_activation], at)
    low, high = saturated_shares(layer.activation, mean, std)
    expected = float(low[0] + high[0])
    passed = float(np.sqrt(mean_square_slope(layer.activation, mean, std)[0]))
    usual = _expected_at_unit_variance(layer.activation)
    return Evidence(
        "saturation",
        site,
        step,
        value,
        f"For pre-activations of standard deviation 1 theory expects {percent(usual)}; for the measured "
        f"{number(float(std[0]))} around {number(float(mean[0]))} it expects {percent(expected)}, and the gradient "
        f"that passes is {number(passed)} of what arrives.",
        "theory",
        usual,
    )


def _has_flat_ends(reading: Reading) -> bool:
    return any(site.activation in _BOUNDED for site in reading.outputs)


SATURATED = Rule(
    "saturated",
    _find,
    needs=(("saturation_low", "output"),),
    explains=frozenset(("vanishing_gradient", "lr_too_low", "rank_collapse", "constant_output")),
    advice='Record "saturation_low" and "saturation_high", as by default.',
    concerns=_has_flat_ends,
)
