"""Numbers of the path between two layers that several rules state: factor per layer, weights, saturation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.reading import Reading
from thruway.diagnosing.trunk import Trunk, column, expected_factors, gain_of, module_name

__all__ = ["Flow", "flow_between", "modules_of"]


@dataclass(frozen=True)
class Flow:
    """The path from an early to a late layer at one step.

    Attributes:
        first, last: places of the layers in the trunk.
        factor: measured factor by which the gradient changes per layer on its way back, a geometric mean.
        expected: the same according to theory, from the measured q and sigma_w; NaN if these are not known.
        gain: geometric mean of sigma_w = rms(weight) * sqrt(fan_in) of the layers; NaN if unknown.
        saturation: mean share of saturated values of the activations; 0 if unknown.
        activation: the most frequent activation, None for none.
        late_gradient: norm of the gradient at the late layer.
    """

    first: int
    last: int
    factor: float
    expected: float
    gain: float
    saturation: float
    activation: str | None
    late_gradient: float

    @property
    def count(self) -> int:
        """Number of layers that the gradient passes."""
        return self.last - self.first


def flow_between(reading: Reading, trunk: Trunk, first: int, last: int, at: int) -> Flow:
    """Return the numbers of the path between two places of the trunk, at a place in `steps`."""
    first, last = min(first, last), min(max(first, last) + trunk.window - 1, len(trunk.names) - 1)
    logs = trunk.log_gradient[first : last + 1, at]
    known = np.flatnonzero(np.isfinite(logs))
    factor = math.exp((logs[known[0]] - logs[known[-1]]) / (known[-1] - known[0])) if len(known) > 1 else math.nan
    layers = [layer for layer in trunk.layers[first : last + 1] if layer is not None]
    kinds = [layer.activation for layer in layers if layer.activation is not None]
    activation = max(set(kinds), key=kinds.count) if kinds else None
    sites = [
        layer.activation_site
        for layer in layers
        if layer.activation_site is not None and layer.activation == activation
    ]
    saturation = column(reading, "saturation", sites, at)
    gradient = trunk.log_gradient[last, at]
    is_plain = all(layer is not None for layer in trunk.layers[first : last + 1])
    return Flow(
        first,
        last,
        factor,
        geometric_mean(expected_factors(reading, trunk, at)[first:last]) if is_plain else math.nan,
        geometric_mean(gain_of(reading, trunk.layers[first + 1 : last + 1], at)),
        float(np.nanmean(saturation)) if np.isfinite(saturation).any() else 0.0,
        activation,
        math.exp(gradient) if math.isfinite(gradient) else 0.0,
    )


def geometric_mean(values: Sequence[float] | np.ndarray) -> float:
    """Return the geometric mean of the finite positive values; NaN if no value is finite and positive."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array) & (array > 0)]
    return float(np.exp(np.log(array).mean())) if len(array) else math.nan


def modules_of(reading: Reading, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the modules of output sites, without repetitions."""
    sites = {site.name: site for site in reading.outputs}
    return tuple(dict.fromkeys(module_name(sites[name]) if name in sites else name for name in names))
