"""Numbers expected in random networks: slopes, shares of saturated values, dead units.

In a wide layer with random weights, the pre-activations of one unit or of all units are normally distributed. Every
function takes measured means and standard deviations, one pair for each layer, and returns one number for each.
"""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from thruway.activations import ACTIVATIONS
from thruway.errors import ConfigError
from thruway.init.gaussian import Function, slope
from thruway.init.meanfield import critical
from thruway.watching.quantities.saturation import ends_of

__all__ = [
    "binomial_bound",
    "critical_gain",
    "dead_share",
    "dead_share_of_units",
    "mean_square",
    "mean_square_slope",
    "saturated_shares",
    "steepest_slope",
    "student_tail",
]

Numbers = NDArray[np.float64]

_NODES = np.linspace(-8, 8, 4001)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
_WIDEST = 1e6  # standard deviations are limited to this: beyond, squares may leave the range of float64


def function_of(activation: str | None) -> Function:
    """Return the function of an activation recorded in a trace; the identity if it is not known."""
    if activation in ACTIVATIONS:
        return ACTIVATIONS[str(activation)].function
    found = getattr(F, str(activation), None) if activation not in (None, "glu", "prelu") else None
    return ACTIVATIONS["linear"].function if found is None else found


def mean_square(activation: str | None, mean: Numbers, std: Numbers) -> Numbers:
    """Return E f(u)^2 for u ~ N(mean, std^2), one number per layer.

    >>> mean_square("relu", np.array([0.0]), np.array([2.0])).round(2)
    array([2.])
    """
    return _expectation(function_of(activation), mean, std)


def mean_square_slope(activation: str | None, mean: Numbers, std: Numbers) -> Numbers:
    """Return E f'(u)^2 for u ~ N(mean, std^2), one number per layer: the share of squared gradients that passes.

    Source:
        Schoenholz et al. 2017 (Deep information propagation), sec. 4.

    >>> mean_square_slope("relu", np.array([0.0]), np.array([3.0])).round(2)
    array([0.5])
    """
    return _expectation(slope(function_of(activation)), mean, std)


def _expectation(function: Function, mean: Numbers, std: Numbers) -> Numbers:
    # Gauss-Hermite converges slowly for functions that are narrow beside the distribution, so the density is summed
    # over a grid that is fine near 0, where activations bend, and covers the whole distribution.
    if not len(mean):
        return np.empty(0)
    centre = np.clip(np.nan_to_num(mean, posinf=_WIDEST, neginf=-_WIDEST), -_WIDEST, _WIDEST)
    width = np.clip(np.nan_to_num(std, posinf=_WIDEST), 1e-9, _WIDEST)
    low, high = centre - 8 * width, centre + 8 * width
    coarse = np.linspace(low, high, 201, axis=1)
    fine = np.clip(_GRID[None, :], low[:, None], high[:, None])
    points = np.sort(np.concatenate([coarse, fine], axis=1), axis=1)
    middle = (points[:, 1:] + points[:, :-1]) / 2
    edges = _normal_cdf((points - centre[:, None]) / width[:, None])
    mass = np.diff(edges, axis=1)
    values = function(torch.from_numpy(middle)).detach().numpy() ** 2
    found: Numbers = (values * mass).sum(1) / mass.sum(1)
    return found


_HALF = np.concatenate([np.linspace(0, 4, 81)[1:], np.geomspace(4, 40, 24)[1:]])
_GRID = np.concatenate([-_HALF[::-1], [0.0], _HALF])


def saturated_shares(activation: str | None, mean: Numbers, std: Numbers) -> tuple[Numbers, Numbers]:
    """Return the expected shares of values at the low and at the high end, for pre-activations N(mean, std^2).

    An activation without such an end has the share 0.

    >>> low, high = saturated_shares("tanh", np.zeros(1), np.ones(1))
    >>> low.round(4), high.round(4)
    (array([0.0705]), array([0.0705]))
    """
    ends = ends_of(activation)
    low, high = np.zeros(len(mean)), np.zeros(len(mean))
    width = np.maximum(std, 1e-30)
    if ends.low is not None:
        low = _normal_cdf((_inverse(str(activation), ends.low) - mean) / width)
    if ends.high is not None:
        high = 1 - _normal_cdf((_inverse(str(activation), ends.high) - mean) / width)
    return low, high


@functools.cache
def _inverse(activation: str, value: float) -> float:
    """Return the argument nearest to 0 at which a monotonic activation takes a value."""
    function = function_of(activation)
    points = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    values = function(points)
    at_most = points[values <= value]
    at_least = points[values >= value]
    place = at_most[-1] if value <= float(function(torch.zeros(1, dtype=torch.float64))) else at_least[0]
    return float(place)


@functools.cache
def critical_gain(activation: str | None) -> float:
    """Return sigma_w = std(weight) * sqrt(fan_in) at which neither signals nor gradients grow or shrink.

    Returns:
        The value of the mean field theory for zero biases. For an activation whose theory has no such point with zero
        biases, such as sigmoid, 1/sqrt(E f'(z)^2), which preserves gradients at unit variance.

    >>> critical_gain("tanh"), round(critical_gain("relu"), 6), round(critical_gain("sigmoid"), 1)
    (1.0, 1.414214, 4.7)
    """
    if activation is None:
        return 1.0
    try:
        sigma = critical(function_of(activation), sigma_b=0.0)[0]
    except ConfigError:
        sigma = math.inf
    if 0.5 <= sigma <= 3:
        return sigma
    return float(1 / np.sqrt(mean_square_slope(activation, np.zeros(1), np.ones(1))[0]))


@functools.cache
def steepest_slope(activation: str | None) -> float:
    """Return the largest slope of an activation on [-10, 10]: 1/4 for sigmoid, 1 for tanh and ReLU."""
    points = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    return float(slope(function_of(activation))(points).abs().max())


def dead_share(correlation: float, samples: float) -> float:
    """Return the share of ReLU units with random weights that are zero for every one of `samples` inputs.

        ∫ Φ(-u sqrt(c / (1 - c)))^n dN(u)

    with c the correlation of the pre-activations of two inputs. As inputs become alike in deep layers, c tends to 1 and
    the share to 1/2: every unit is then active for all inputs or for none. It is never larger, because the weights are
    as often negative as positive.

    >>> round(dead_share(0.0, 64), 6), round(dead_share(1 - 1e-9, 64), 2)
    (0.0, 0.5)
    """
    c = min(max(correlation, 0.0), 1 - 1e-12)
    logs = np.log(np.maximum(_normal_cdf(-_NODES * math.sqrt(c / (1 - c))), 1e-300))
    return float((_WEIGHTS * np.exp(max(samples, 1.0) * logs)).sum())


def dead_share_of_units(mean: float, std: float, correlation: float, samples: float) -> float:
    """Return the share of units whose pre-activation is negative for every one of `samples` inputs.

    Of the mean square of the pre-activations, the share `correlation` belongs to the means of the units and the rest to
    the differences between inputs. Both are taken for normally distributed.

    >>> round(dead_share_of_units(-2.0, 1.0, 0.8, 64), 2), round(dead_share_of_units(-2.0, 1.0, 0.999, 64), 2)
    (0.23, 0.97)
    """
    within = max((1 - correlation) * (mean * mean + std * std), 1e-30)
    between = math.sqrt(max(std * std - within, 0.0))
    logs = np.log(np.maximum(_normal_cdf(-(mean + between * _NODES) / math.sqrt(within)), 1e-300))
    return float((_WEIGHTS * np.exp(max(samples, 1.0) * logs)).sum())


def binomial_bound(share: Numbers, count: float, deviations: float = 3.0) -> Numbers:
    """Return the shares that binomial shares of `count` draws exceed rarely: by so many standard deviations.

    >>> binomial_bound(np.array([0.5, 0.01]), 100).round(2)
    array([0.65, 0.04])
    """
    count = max(count, 1.0)
    spread = np.sqrt(np.maximum(share * (1 - share), 1 / (4 * count * count)) / count)
    return np.minimum(1.0, share + deviations * spread)


def student_tail(t: float, freedom: int) -> float:
    """Return the probability that Student's variable exceeds t: the mean of n = `freedom` + 1 normal numbers in units
    of its standard error.

    With t = sqrt(freedom) tan(a), the density of the angle a is cos(a)^(freedom - 1). Without degrees of freedom
    nothing is known of the error, and every t is possible.

    >>> round(student_tail(2.353, 3), 3), round(student_tail(-2.353, 3), 3), student_tail(1e9, 0)
    (0.05, 0.95, 1.0)
    """
    if freedom < 1:
        return 1.0
    angle = math.atan(t / math.sqrt(freedom))
    # Middles of cells of equal width; the narrow peak of many degrees of freedom is some cells wide.
    middles = (np.arange(8000) + 0.5) / 8000
    tail, both = (
        width * float((np.cos(math.pi / 2 - width * middles) ** (freedom - 1)).mean())
        for width in (math.pi / 2 - angle, math.pi)
    )
    return tail / both


def _normal_cdf(x: Numbers) -> Numbers:
    found: Numbers = torch.special.ndtr(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()
    return found
