"""Expectations over Gaussian pre-activations, by quadrature in float64."""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from thruway.activations import activation as named
from thruway.errors import ConfigError

__all__ = ["Function", "function_of", "mean_product", "mean_square", "mean_square_slope", "slope"]

Function = Callable[[Tensor], Tensor]

_REACH = 12  # standard deviations; the tails beyond weigh 4e-33


def function_of(activation: str | Function) -> Function:
    """Return the function of a named activation, or the callable itself."""
    if isinstance(activation, str):
        return named(activation).function
    if not callable(activation):
        raise ConfigError(f"activation must be a name or a callable on tensors, got {activation!r}.")
    return activation


def mean_square(function: Function, q: float) -> float:
    """Return E f(u)^2 for u ~ N(0, q)."""
    nodes, weights = _rule(_REACH, 32)
    return _mean(function(math.sqrt(q) * nodes) ** 2, weights, function)


def mean_square_slope(function: Function, q: float) -> float:
    """Return E f'(u)^2 for u ~ N(0, q)."""
    nodes, weights = _rule(_REACH, 32)
    return _mean(slope(function)(math.sqrt(q) * nodes) ** 2, weights, function)


def mean_product(function: Function, q: float, correlation: float) -> float:
    """Return E f(u) f(v) for u, v ~ N(0, q) with this correlation."""
    nodes, weights = _rule(_REACH, 12)
    u = math.sqrt(q) * nodes[:, None].expand(-1, len(nodes))
    v = math.sqrt(q) * (correlation * nodes[:, None] + math.sqrt(max(0.0, 1 - correlation**2)) * nodes[None, :])
    return _mean(function(u) * function(v), weights[:, None] * weights[None, :], function)


def slope(function: Function) -> Function:
    """Return the derivative of an elementwise function, by autograd."""

    def derivative(u: Tensor) -> Tensor:
        with torch.enable_grad():
            point = u.detach().clone().requires_grad_()
            value = function(point)
            if not value.requires_grad:
                raise ConfigError(f"autograd cannot differentiate {function!r}: write it with torch operations.")
            (result,) = torch.autograd.grad(value.sum(), point)
        return result

    return derivative


def _mean(values: Tensor, weights: Tensor, function: Function) -> float:
    mean = float((values.detach() * weights).sum()) if values.shape == weights.shape else math.nan
    if not math.isfinite(mean):
        raise ConfigError(
            f"{function!r} must map a float64 tensor elementwise to finite numbers: got shape {tuple(values.shape)} "
            f"for {tuple(weights.shape)}, mean {mean}."
        )
    return mean


@functools.cache
def _rule(reach: int, points: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights for E g(z), z ~ N(0, 1): Gauss-Legendre on intervals of length 1."""
    # Gauss-Hermite converges slowly at kinks. Here an interval ends at 0, so ReLU is integrated exactly.
    x, w = np.polynomial.legendre.leggauss(points)
    left = torch.arange(-reach, reach, dtype=torch.float64)[:, None]
    nodes = (left + (torch.from_numpy(x) + 1) / 2).flatten()
    density = torch.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    return nodes, torch.from_numpy(w / 2).repeat(2 * reach) * density
