"""Lines that theory expects over depth, from the measured weights and pre-activations of a chain of layers."""

import math

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.reading import Layer, Reading
from thruway.diagnosing.theory import mean_square
from thruway.diagnosing.trunk import expected_factors, gain_of, trunk_of

__all__ = ["expected_gradients", "expected_signals"]

Line = NDArray[np.float64]


def expected_gradients(reading: Reading, column: int) -> tuple[list[str], Line] | None:
    """Return the expected root mean square of the gradient at every layer, starting from the measured one at the last.

        E |g_l|^2 = sigma_w^2 E f'(u_l)^2 E |g_(l+1)|^2

    with the measured size of each weight, and u_l normal with the measured mean and standard deviation.

    Args:
        reading: reading of a trace.
        column: place among its steps.
    Returns:
        (names of the layers, root mean squares), or None if there are shortcuts or gates, or numbers are missing.
    Source:
        Schoenholz et al. 2017, sec. 4.
    """
    trunk = trunk_of(reading)
    if trunk.is_branched or len(trunk.names) < 3:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.log(expected_factors(reading, trunk, column))
    logs = trunk.log_gradient[-1, column] + np.append(np.cumsum(factors[::-1])[::-1], 0.0)
    shapes = {site.name: site.shape for site in reading.outputs}
    sizes = [0.5 * math.log(max(1, math.prod(shapes.get(name, ())))) for name in trunk.names]
    return _known(list(trunk.names), np.exp(logs - np.array(sizes)))


def expected_signals(reading: Reading, column: int) -> tuple[list[str], Line] | None:
    """Return the expected root mean square of every layer's output, starting from the measured one of the first.

        q_(l+1) = sigma_w^2 E f(sqrt(q_l) z)^2,   z ~ N(0, 1)

    with the measured size of each weight.

    Args:
        reading: reading of a trace.
        column: place among its steps.
    Returns:
        (names of the layers, root mean squares), or None if there are shortcuts, gates or norms, or numbers are
        missing.
    Source:
        Poole et al. 2016; Schoenholz et al. 2017, sec. 2.
    """
    trunk, outputs = trunk_of(reading), reading.rms("output")
    layers = [layer for layer in trunk.layers if layer is not None]
    if trunk.is_branched or trunk.normalised.any() or len(layers) < 3 or outputs is None:
        return None
    first = outputs.of(layers[0].name)
    # Parameters are measured after the step, so the weights of a step are those recorded at the step before.
    gains = gain_of(reading, tuple(layers), max(0, column - 1))
    q = [math.nan if first is None else float(first[column]) ** 2]
    for layer, gain in zip(layers, gains[1:].tolist(), strict=False):
        q.append(gain**2 * _power(layer, q[-1]))
    return _known([layer.name for layer in layers], np.sqrt(np.array(q)))


def _power(layer: Layer, q: float) -> float:
    if not math.isfinite(q):
        return math.nan
    return float(mean_square(layer.activation, np.zeros(1), np.array([math.sqrt(q)]))[0])


def _known(names: list[str], line: Line) -> tuple[list[str], Line] | None:
    return (names, line) if np.isfinite(line).sum() > 2 else None
