"""Inputs of wrong scale that a recurrent layer takes directly: its gates are saturated from the first time step on.

The gates inside of nn.LSTM and nn.GRU are not recorded. Their inputs have the size rms(x) sigma_w, with
sigma_w = std(weight_ih) sqrt(inputs), from which theory gives the share of saturated gates.
"""

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Reading, Values
from thruway.diagnosing.rules.wording import layer_text, number, percent
from thruway.diagnosing.theory import saturated_shares

__all__ = ["find_unscaled_sequence"]

_LARGE = 10.0
_MOST = 0.75  # share of saturated gates: three of four pass no gradient, whatever the recurrent weights are


def find_unscaled_sequence(reading: Reading, inputs: Values) -> Finding | None:
    """Return a finding if the input of a first layer nn.RNN, nn.LSTM or nn.GRU saturates its gates, or None."""
    first = reading.outputs[0] if reading.outputs else None
    if first is None or first.operation not in ("RNN", "LSTM", "GRU") or len(inputs.sites) != 1:
        return None
    name = first.name.partition("[")[0].partition("#")[0]
    weight = next((p for p in reading.parameters if p.name == f"{name}.weight_ih_l0"), None)
    known = np.flatnonzero(np.isfinite(inputs.values[0]))
    site = inputs.sites[0]
    if weight is None or not len(known) or not np.isfinite(weight.std).any():
        return None
    if not site.shape or site.shape[-1] != weight.shape[1]:
        return None
    place = int(known[0])
    size = float(inputs.values[0, place])
    gain = float(weight.std[np.isfinite(weight.std)][0]) * weight.shape[1] ** 0.5
    activation = "tanh" if first.operation == "RNN" else "sigmoid"
    shares = saturated_shares(activation, np.zeros(2), np.array([gain * size, gain]))
    share, usual = (float(shares[0][k] + shares[1][k]) for k in range(2))
    if size < _LARGE or share < _MOST:
        return None
    step = int(reading.steps[place])
    return Finding(
        "unscaled_input",
        f"The input has the size (root mean square) {number(size)} and reaches {layer_text(name)} ({first.operation}) "
        f"without a norm: {percent(share)} of its {activation} units are saturated. Standardise the inputs.",
        (name,),
        since=(None, step),
        evidence=(
            Evidence(
                "rms",
                site.name,
                step,
                size,
                f"the root mean square of the input is {number(size)}; 1 is what the initial weights are made for",
                "threshold",
                1.0,
                _LARGE,
            ),
            Evidence(
                "saturation",
                name,
                step,
                share,
                f"with std(weight_ih) * sqrt({weight.shape[1]}) = {number(gain)}, theory expects {percent(share)} of "
                f"the {activation} units to be saturated, and {percent(usual)} for inputs of size 1",
                "theory",
                usual,
            ),
            Evidence("norm", name, step, 0.0, f"no norm lies between the input and {layer_text(name)}", "ruled out"),
        ),
        cures=(CURES["scale_input"], CURES["normalise"]),
        span=(name, name),
        margin=size / _LARGE,
        confidence=0.9,
    )
