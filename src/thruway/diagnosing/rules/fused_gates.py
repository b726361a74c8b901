"""Gates of nn.LSTM and nn.GRU that are shut from the first step on, seen in the size of the layer's output.

The gates of these layers are not recorded, but the output is a product with them. The state of an LSTM after one time
step is sigmoid(o) tanh(sigmoid(i) tanh(a)), that of a GRU (1 - sigmoid(z)) tanh(a). The weights and the size of the
input bound the size of a from below, so with gates at 1/2 the output is about tanh(a)/4 or tanh(a)/2, and the measured
output divided by that is the factor of the gates. A bias must be large enough to explain it: the norm of the bias
vector bounds that of every gate.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Matrix, Parameter, Reading
from thruway.diagnosing.rules.advice import ADVICE
from thruway.diagnosing.rules.time_gradients import late_fall
from thruway.diagnosing.rules.wording import layer_text, number
from thruway.diagnosing.theory import mean_square
from thruway.watching.sites import Site

__all__ = ["fused_gates_shut"]

_APPLIED = 0.05  # of a candidate in all time steps together
_ROUNDING = 1e-6  # below this share, what reads the output beside other values of size 1 gets rounding errors
# Number of gates and candidates, share of a candidate that gates at 1/2 pass on, gate that can shut, sign of its bias.
_KINDS = {"LSTM": (4, 0.25, "input or output gate", "-"), "GRU": (3, 0.5, "update gate", "")}
_MOST = 16.0  # 1 - sigmoid(z) is 0 in float32 from there on


@dataclass(frozen=True)
class _Layer:
    """A layer nn.LSTM or nn.GRU: share of the expected output that was measured, (steps,), and bound of its biases."""

    name: str
    site: Site
    share: Matrix
    expected: float
    bias: float


def _layers(reading: Reading) -> Iterator[_Layer]:
    rms = reading.rms()
    parameters = {parameter.name: parameter for parameter in reading.parameters}
    for place, site in enumerate(reading.outputs):
        if site.operation not in _KINDS or not site.name.endswith("[0]") or "#" in site.name or rms is None:
            continue
        name, measured = site.name[:-3], rms.of(site.name)
        size = _size_of_input(reading, place, parameters.get(f"{name}.weight_ih_l0"))
        gates, factor, *_ = _KINDS[site.operation]
        depth, bias = 0, 0.0
        while size is not None and (weight := parameters.get(f"{name}.weight_ih_l{depth}")) is not None:
            width = math.sqrt(weight.shape[1]) * size * _first_rms(weight)
            size = factor * math.sqrt(float(mean_square("tanh", np.zeros(1), np.array([width]))[0]))
            parts = [parameters.get(f"{name}.bias_{part}_l{depth}") for part in ("ih", "hh")]
            bias = max(bias, sum(math.sqrt(gates) * _first_rms(part) for part in parts if part is not None))
            depth += 1
        if size and depth and measured is not None:
            yield _Layer(name, site, measured / size, size, bias)


def _size_of_input(reading: Reading, place: int, weight: Parameter | None) -> float | None:
    """Return the root mean square, at the first step, of what a layer takes: an input of the model or an output."""
    if weight is None:
        return None
    kinds = ((reading.rms("input"), None if place else 0), (reading.rms(), place - 1))
    for values, before in kinds:
        if values is None or before is None or before < 0:
            continue
        site = values.sites[0] if values is not reading.rms() else reading.outputs[before]
        row = values.of(site.name)
        if row is not None and site.shape and site.shape[-1] == weight.shape[1] and np.isfinite(row[0]):
            return float(row[0])
    return None


def _first_rms(parameter: Parameter) -> float:
    known = parameter.norm[np.isfinite(parameter.norm)]
    return float(known[0]) / math.sqrt(math.prod(parameter.shape)) if len(known) else 0.0


def fused_gates_shut(reading: Reading) -> Iterator[Finding]:
    """Yield a finding for the first nn.LSTM or nn.GRU that lets in nothing from the first step to the last."""
    for layer in _layers(reading):
        # Either of the first two dimensions may be that of time: the larger one bounds the number of time steps.
        times = max(layer.site.shape[:-1])
        spell = reading.spell(layer.share * times < _APPLIED, np.isfinite(layer.share))
        if spell is None or spell[0][0] is not None or spell[1] is not None or reading.steps[0] != 0:
            continue
        largest = float(np.nanmax(layer.share)) * times
        fall = late_fall(reading)
        if largest > _ROUNDING and fall is None:
            continue
        first = float(layer.share[0])
        # Two gates may share the factor. What no bias explains has another cause, such as a candidate of weights 0.
        if layer.bias < min(-math.log(max(first, 1e-300)), _MOST) / 2:
            continue
        yield _finding(reading, layer, first, largest, fall)
        return


def _finding(reading: Reading, layer: _Layer, first: float, largest: float, fall: float | None) -> Finding:
    step = int(reading.steps[0])
    *_, gate, sign = _KINDS[layer.site.operation]
    size = first * layer.expected
    limit = _APPLIED / max(layer.site.shape[:-1])
    ruled_out = (
        f"It has not learnt to be shut: it is since the first step, and the loss falls by {number(fall or 0.0)}."
        if largest > _ROUNDING
        else "Neither padding nor small inputs explain it: the bound is for the measured size of the input, and the "
        "output is below rounding at every step."
    )
    return Finding(
        "gates_shut",
        f"The {gate} of {layer_text(layer.name)} ({layer.site.operation}) is shut since the first step: its output has "
        f"the size {number(size)}, where its weights and inputs give about {number(layer.expected)} with open gates. A "
        f"bias of this gate starts near {sign}{number(layer.bias)}.",
        (layer.name,),
        since=(None, step),
        evidence=(
            Evidence(
                "rms",
                layer.site.name,
                step,
                size,
                f"The output is {number(first)} times as large as with gates at 1/2; below {number(limit)} all time "
                f"steps together let in less than {number(_APPLIED)} of a candidate.",
                "threshold",
                layer.expected,
                limit * layer.expected,
            ),
            Evidence(
                "norm",
                layer.name,
                step,
                layer.bias,
                "A gate with a bias of 0 starts at 0.5. By the norm of the bias vector, one of the gates may have a "
                f"bias of {sign}{number(layer.bias)}.",
                "theory",
                0.0,
            ),
            Evidence("rms", layer.site.name, int(reading.steps[-1]), largest, ruled_out, "ruled out"),
        ),
        cures=(ADVICE["reset_gate_bias"],),
        span=(layer.name, layer.name),
        margin=min(max(1.0, limit / max(first, 1e-300)), 1e300),
        confidence=0.9,
    )
