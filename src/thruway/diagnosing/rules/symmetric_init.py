"""Rule for layers whose units are copies of each other: weights that are all equal, at the first recorded step."""

import math
from collections.abc import Iterator

import numpy as np

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Parameter, Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.wording import join_names, number
from thruway.diagnosing.trunk import trunk_of

__all__ = ["SYMMETRIC_INIT"]


def _find(reading: Reading) -> Iterator[Finding]:
    found = list(_constant(reading))
    if not found:
        return
    parameter, _, value = found[0]
    is_zero = all(value == 0 for _, _, value in found)
    names = [site for _, site, _ in found]
    what = "zero" if is_zero else f"equal ({number(value)})"
    gradient = float(parameter.gradient_norm[0]) if np.isfinite(parameter.gradient_norm[0]) else 0.0
    consequence = (
        "No gradient passes a layer of zeros, and the output does not depend on the input."
        if is_zero
        else "All units of the layer compute the same, get the same gradient, and stay the same."
    )
    step = int(reading.steps[0])
    yield Finding(
        "symmetric_init",
        f"All weights of {join_names(names)} are {what}. {consequence}",
        modules_of(reading, names),
        since=(None, step),
        evidence=(
            Evidence(
                "std",
                parameter.name,
                step,
                0.0,
                f"The standard deviation of {parameter.name} is exactly 0 over its {math.prod(parameter.shape)} "
                "weights.",
                "threshold",
                None,
                0.0,
            ),
            Evidence(
                "std",
                parameter.name,
                step,
                0.0,
                f"Random weights would have a standard deviation of about 1 / sqrt({math.prod(parameter.shape[1:])}) = "
                f"{number(1 / math.sqrt(max(1, math.prod(parameter.shape[1:]))))}.",
                "theory",
                1 / math.sqrt(max(1, math.prod(parameter.shape[1:]))),
            ),
            Evidence(
                "norm",
                parameter.name,
                step,
                gradient,
                "It is not the last layer of a residual branch, a gate or an output layer, which may start at zero.",
                "ruled out",
            ),
        ),
        cures=(CURES["break_symmetry"], CURES["critical_init"]),
        span=(names[0], names[-1]),
        margin=2.0,
        confidence=1.0 if is_zero or len(found) > 1 else 0.9,
    )


def _constant(reading: Reading) -> Iterator[tuple[Parameter, str, float]]:
    """Yield parameter, site and absolute value of the weights that are all equal where units must differ."""
    trunk, gates = reading.derived(trunk_of), {site.name for site in reading.outputs if site.is_gate}
    parameters = {parameter.name: parameter for parameter in reading.parameters}
    layers = [layer for layer in reading.layers if layer.weight is not None and "#" not in layer.name]
    constant = [
        (layer, parameters[str(layer.weight)]) for layer in layers if _is_constant(parameters[str(layer.weight)])
    ]
    is_zero_stack = sum(_value(parameter) == 0 for _, parameter in constant) > 1
    for layer, parameter in constant:
        value = _value(parameter)
        in_trunk = layer.name in trunk.names or not trunk.names
        is_last = layer is layers[-1]
        if layer.activation_site in gates:
            continue
        if value == 0:
            # A zero layer is harmless at the end of a branch or of the network. One in a chain cuts the chain unless
            # its own gradient is not zero, in which case the first step makes it random.
            cut = is_zero_stack or not parameter.gradient_norm[0] > 0
            if (trunk.is_branched and layer.name not in trunk.names) or is_last or not cut:
                continue
            if trunk.is_branched and not in_trunk:
                continue
        elif is_last and len(constant) == 1:
            continue  # an output layer of equal weights is made different by its own gradient
        yield parameter, layer.name, value
    for name, parameter in parameters.items():
        part = name.rpartition(".")[2]
        if part.startswith(("weight_hh", "weight_ih")) and _is_constant(parameter):
            yield parameter, name.rpartition(".")[0], _value(parameter)


def _is_constant(parameter: Parameter) -> bool:
    return (
        len(parameter.shape) > 1
        and parameter.shape[0] > 1
        and math.prod(parameter.shape) > 2
        and bool(parameter.std[0] == 0 or _is_rounded_zero(parameter))
    )


def _is_rounded_zero(parameter: Parameter) -> bool:
    """Return True if the standard deviation of equal values is not 0 because of rounding only."""
    return bool(
        parameter.norm[0] > 0 and parameter.std[0] * math.sqrt(math.prod(parameter.shape)) < 1e-5 * parameter.norm[0]
    )


def _value(parameter: Parameter) -> float:
    return float(parameter.norm[0]) / math.sqrt(math.prod(parameter.shape))


_EFFECTS = (
    "constant_output rank_collapse vanishing_gradient lr_too_low frozen_parameters dead_units "
    "poor_init saturated exploding_activation exploding_gradient lr_too_high diverging nan_or_inf "
    "dying_relu"
)

SYMMETRIC_INIT = Rule(
    "symmetric_init",
    _find,
    needs=(("std", "parameter"),),
    explains=frozenset(_EFFECTS.split()),
    advice="Pass optimizer= to watch, and record the first step.",
)
