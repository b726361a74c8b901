"""Mean-field theory of random networks: variance map, fixed point, criticality and depth scale.

In a wide network s = W z + b with Var W = sigma_w^2 / fan_in and Var b = sigma_b^2, pre-activations are Gaussian
and their variance q follows a map from layer to layer. Its fixed point q*, the growth chi_1 of small differences
per layer, and the depth xi_c that a signal reaches depend on the activation and the two sigmas only.

An activation is a name from `thruway.activations` or any elementwise, differentiable callable.
"""

import itertools
import math
from collections.abc import Callable

from thruway.errors import ConfigError
from thruway.init.gaussian import Function, function_of, mean_product, mean_square, mean_square_slope, slope
from thruway.init.profile import VarianceProfile, stack_of, variance_profile

__all__ = [
    "VarianceProfile",
    "chi_1",
    "critical",
    "depth_scale",
    "fixed_point",
    "stack_of",
    "variance_map",
    "variance_profile",
]

# Slopes at variance 0 are taken at this variance: at 0 itself a kink has no slope.
_TINY = 1e-30
_LEAST, _MOST = 1e-12, 1e12


def variance_map(q: float, activation: str | Function, sigma_w: float, sigma_b: float = 0.0) -> float:
    """Return the variance q' of the pre-activations of the next layer, given the variance q in this layer.

        q' = sigma_w^2 E f(sqrt(q) z)^2 + sigma_b^2,   z ~ N(0, 1)

    Raises:
        ConfigError: if q or a sigma is negative, or the activation is not known.
    Source:
        Poole et al. 2016; Schoenholz et al. 2017, sec. 2.

    >>> round(variance_map(3.0, "relu", sigma_w=2**0.5), 9)
    3.0
    """
    _check(q=q, sigma_w=sigma_w, sigma_b=sigma_b)
    return sigma_w**2 * mean_square(function_of(activation), q) + sigma_b**2


def fixed_point(activation: str | Function, sigma_w: float, sigma_b: float = 0.0, start: float = 1.0) -> float:
    """Return the variance q* to which deep layers converge from `start`: 0 if signals vanish, inf if they explode.

    If every q is a fixed point (ReLU at its critical point), q* is `start`.

    Raises:
        ConfigError: if a sigma is negative or `start` is not positive.
    Source:
        Schoenholz et al. 2017, sec. 2.

    >>> fixed_point("tanh", sigma_w=1.0)
    0.0
    >>> round(fixed_point("relu", sigma_w=1.0, sigma_b=1.0), 9)
    2.0
    """
    if not start > 0:
        raise ConfigError(f"start must be a positive variance, got {start}.")

    def rise(q: float) -> float:
        change = variance_map(q, activation, sigma_w, sigma_b) - q
        return 0.0 if abs(change) <= 1e-13 * q else change

    going_up = rise(start) > 0
    if rise(start) == 0:
        return start
    q = start
    while _LEAST < q < _MOST:
        beyond = 2 * q if going_up else q / 2
        if (rise(beyond) > 0) != going_up:
            return _root(rise, min(q, beyond), max(q, beyond))
        q = beyond
    return math.inf if going_up else 0.0


def chi_1(activation: str | Function, sigma_w: float, sigma_b: float = 0.0) -> float:
    """Return the growth per layer of a small squared difference between two inputs, and of squared gradients.

        chi_1 = sigma_w^2 E f'(sqrt(q*) z)^2

    Below 1 the network is ordered: signals converge and gradients vanish. Above 1 it is chaotic: gradients
    explode. At 1, the critical point, both are preserved.

    Source:
        Schoenholz et al. 2017, sec. 2; for gradients, sec. 4.

    >>> round(chi_1("relu", sigma_w=2**0.5), 9), round(chi_1("tanh", sigma_w=0.5), 9)
    (1.0, 0.25)
    """
    q = fixed_point(activation, sigma_w, sigma_b)
    return sigma_w**2 * mean_square_slope(function_of(activation), min(max(q, _TINY), _MOST))


def depth_scale(activation: str | Function, sigma_w: float, sigma_b: float = 0.0) -> float:
    """Return the depth xi_c, in layers, over which the correlation of two inputs changes by a factor e.

        xi_c = -1 / ln(sigma_w^2 E f'(u) f'(v)),   u, v ~ N(0, q*) with the limit c* of the correlation in deep layers

    It is infinite at the critical point. In the ordered phase c* = 1 and xi_c = -1 / ln chi_1. Networks can be
    trained up to a depth of about 6 xi_c.

    Raises:
        ConfigError: if the variance has no finite fixed point.
    Source:
        Schoenholz et al. 2017, sec. 3.

    >>> round(depth_scale("tanh", sigma_w=0.5), 4), depth_scale("relu", sigma_w=2**0.5)
    (0.7213, inf)
    """
    growth = chi_1(activation, sigma_w, sigma_b)
    if abs(growth - 1) < 1e-9:
        return math.inf
    if growth > 1:
        growth = _decorrelated_slope(
            function_of(activation), sigma_w, sigma_b, fixed_point(activation, sigma_w, sigma_b)
        )
    return -1 / math.log(growth) if growth > 0 else 0.0


def critical(
    activation: str | Function, *, sigma_b: float | None = None, q: float | None = None
) -> tuple[float, float]:
    """Return the (sigma_w, sigma_b) at the edge of chaos, chi_1 = 1, for a given sigma_b (default 0) or variance q*.

    Initialise weights with standard deviation sigma_w / sqrt(fan_in), biases with sigma_b.

    Raises:
        ConfigError: if sigma_b and q are both given, or if the activation has no critical point there.
    Source:
        Schoenholz et al. 2017, sec. 2.

    >>> critical("tanh")
    (1.0, 0.0)
    >>> sigma_w, sigma_b = critical("relu", q=2.0)
    >>> round(sigma_w**2, 9), sigma_b
    (2.0, 0.0)
    """
    if q is not None and sigma_b is not None:
        raise ConfigError(f"pass q or sigma_b, not both: each determines the other. Got q={q} and sigma_b={sigma_b}.")
    function = function_of(activation)
    if q is None:
        q = _critical_variance(function, 0.0 if sigma_b is None else sigma_b)
    elif not q > 0:
        raise ConfigError(f"q must be a positive variance, got {q}.")
    weight_variance = 1 / _positive_slope(function, q)
    if sigma_b is None:
        bias_variance = q - weight_variance * mean_square(function, q)
        if bias_variance < -1e-9 * q:
            raise ConfigError(
                f"there is no critical point with q={q}: at chi_1 = 1 the weights alone (sigma_w="
                f"{math.sqrt(weight_variance):.6g}) give a larger variance. Pass another q, or sigma_b."
            )
        # A rounding error of two equal numbers, as with ReLU, counts as 0.
        sigma_b = math.sqrt(bias_variance) if bias_variance > 1e-12 * q else 0.0
    return math.sqrt(weight_variance), sigma_b


def _critical_variance(function: Function, sigma_b: float) -> float:
    """Return the smallest q* that weights with chi_1 = 1 and this bias preserve."""
    _check(sigma_b=sigma_b)
    if sigma_b == 0 and mean_square(function, 0.0) == 0:
        return _TINY

    def excess(q: float) -> float:
        return q - mean_square(function, q) / _positive_slope(function, q) - sigma_b**2

    places = [10 ** (exponent / 4) for exponent in range(-32, 25)]
    for low, high in itertools.pairwise(places):
        if excess(low) < 0 < excess(high):
            return _root(excess, low, high)
    raise ConfigError(
        f"this activation has no critical point with sigma_b={sigma_b}: where chi_1 = 1 its variance has no fixed "
        "point. Pass sigma_b=0, or a variance q."
    )


def _positive_slope(function: Function, q: float) -> float:
    mean = mean_square_slope(function, q)
    if mean == 0:
        raise ConfigError(f"{function!r} is flat at variance {q}: no sigma_w gives chi_1 = 1.")
    return mean


def _decorrelated_slope(function: Function, sigma_w: float, sigma_b: float, q: float) -> float:
    """Return the slope of the correlation map at its fixed point below 1."""
    if math.isinf(q):
        raise ConfigError(
            f"at sigma_w={sigma_w}, sigma_b={sigma_b} the variance grows without bound, so there is no depth scale. "
            "Pass a smaller sigma_w."
        )

    def rise(correlation: float) -> float:
        return (sigma_w**2 * mean_product(function, q, correlation) + sigma_b**2) / q - correlation

    # Just below 1 the map lies below the diagonal, because chi_1 > 1.
    correlation = 0.0 if rise(0.0) <= 0 else _root(rise, 0.0, 1 - 1e-9)
    return sigma_w**2 * mean_product(slope(function), q, correlation)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find a sign change of the function by bisection."""
    is_low_positive = function(low) > 0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        value = function(middle)
        if value == 0:
            return middle
        if (value > 0) == is_low_positive:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _check(**named: float) -> None:
    for name, value in named.items():
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be a finite number of at least 0, got {value}.")
