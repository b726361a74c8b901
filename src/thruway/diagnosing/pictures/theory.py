"""Lines that theory expects over depth, from the measured weights and pre-activations of a plain chain of layers."""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from thruway.activations import ACTIVATIONS
from thruway.diagnosing.reading import Layer, Reading
from thruway.init.gaussian import function_of, mean_square, mean_square_slope

__all__ = ["expected_gradients", "expected_signals"]

Line = NDArray[np.float64]


def expected_gradients(reading: Reading, column: int) -> tuple[list[str], Line] | None:
    """Return the root mean square of the gradient at every pre-activation that theory expects, from the last layer on.

        E g_l^2 = n_(l+1) Var W_(l+1) E f'(sqrt(q_l) z)^2 E g_(l+1)^2,   z ~ N(0, 1)

    with the measured variance of each weight, the measured mean square q_l of each pre-activation, and the measured
    gradient at the last layer.

    Returns:
        (names of the layers, root mean squares), or None if the layers are no plain chain, or a number is missing.
    Source:
        Schoenholz et al. 2017, eq. 14; Glorot & Bengio 2010, eq. 6.
    """
    layers, q, gradients = reading.layers, _mean_squares(reading, "output", column), None
    gradients = _mean_squares(reading, "gradient", column)
    if not _is_chain(reading) or q is None or gradients is None:
        return None
    weights = [_weight_square(reading, layer, column) for layer in layers]
    known = math.nan if math.isnan(gradients[-1]) else gradients[-1]
    line = [known]
    for place in range(len(layers) - 2, -1, -1):
        layer, following = layers[place], layers[place + 1]
        slope = _slope(layer, q[place])
        known = known * _fan_out(reading, following) * weights[place + 1] * slope
        line.append(known)
    return _rooted([layer.name for layer in layers], line[::-1])


def expected_signals(reading: Reading, column: int) -> tuple[list[str], Line] | None:
    """Return the root mean square of every pre-activation that theory expects, from the first layer on.

        q_(l+1) = fan_in Var W_(l+1) E f(sqrt(q_l) z)^2,   z ~ N(0, 1)

    with the measured variance of each weight and the measured mean square of the first pre-activation.

    Returns:
        (names of the layers, root mean squares), or None if the layers are no plain chain, or a number is missing.
    Source:
        Poole et al. 2016; Schoenholz et al. 2017, sec. 2.
    """
    layers, measured = reading.layers, _mean_squares(reading, "output", column)
    if not _is_chain(reading) or measured is None:
        return None
    q = measured[0]
    line = [q]
    for layer, following in itertools.pairwise(layers):
        power = _power(layer, q)
        q = following.fan_in * _weight_square(reading, following, column) * power
        line.append(q)
    return _rooted([layer.name for layer in layers], line)


def _is_chain(reading: Reading) -> bool:
    """Return True if every layer takes the activation of the layer before it: no additions, gates, norms or loops."""
    layers = reading.layers
    return (
        len(layers) > 2
        and not reading.trace.branches
        and not any(site.is_gate for site in reading.outputs)
        and not any(layer.is_normalised or "#" in layer.name for layer in layers)
        and all(layer.fan_in > 0 for layer in layers)
        and all(layer.activation is None or layer.activation in ACTIVATIONS for layer in layers)
        and all(_fan_out(reading, layer) == following.fan_in for layer, following in itertools.pairwise(layers))
    )


def _mean_squares(reading: Reading, kind: str, column: int) -> list[float] | None:
    values = reading.rms("output" if kind == "output" else "gradient")
    if values is None:
        return None
    found = [values.of(layer.name) for layer in reading.layers]
    return (
        None
        if any(each is None for each in found)
        else [float(each[column]) ** 2 for each in found if each is not None]
    )


def _weight_square(reading: Reading, layer: Layer, column: int) -> float:
    """Return the mean square of a weight at a step; NaN if it is not known."""
    values = reading.rms("parameter")
    found = None if values is None or layer.weight is None else values.of(layer.weight)
    if found is None:
        return math.nan
    # Parameters are measured after the step, so the numbers of the step before are those of this pass.
    known = np.flatnonzero(~np.isnan(found[: max(column, 1)]))
    return float(found[known[-1]]) ** 2 if len(known) else math.nan


def _fan_out(reading: Reading, layer: Layer) -> int:
    shapes = {site.name: site.shape for site in reading.trace.sites if site.kind == "parameter"}
    shape = shapes.get(layer.weight or "", ())
    return int(np.prod(shape)) // shape[1] if len(shape) > 1 else 0


def _slope(layer: Layer, q: float) -> float:
    return 1.0 if layer.activation is None else mean_square_slope(function_of(layer.activation), max(q, 1e-30))


def _power(layer: Layer, q: float) -> float:
    return q if layer.activation is None else mean_square(function_of(layer.activation), q)


def _rooted(names: list[str], squares: list[float]) -> tuple[list[str], Line] | None:
    line = np.sqrt(np.array(squares))
    return (names, line) if np.isfinite(line).sum() > 2 else None
