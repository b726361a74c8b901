"""Predicted variances of activations and gradients in every layer of a random stack."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, InitError, ShapeError
from thruway.init.gaussian import Function, function_of, mean_square, mean_square_slope
from thruway.init.parts import HasParts

__all__ = ["VarianceProfile", "stack_of", "variance_profile"]

# H of a layer, or of one layer of a stack; "gate.transform" in a wrapper is a gate.
_TRANSFORM = re.compile(r"(\d+\.)?transform")


@dataclass(frozen=True)
class VarianceProfile:
    """Predicted mean squares, one number per layer: variances where the mean is 0.

    For L layers s^i = W^i z^i + b^i, z^(i+1) = f(s^i), i = 0..L-1, averaged over units:

    Attributes:
        activations: z^0 = x to z^L, L + 1 numbers.
        pre_activations: s^0 to s^(L-1), L numbers.
        gradients: d cost / d s^i, L numbers; the last is `gradient_variance`.
        weight_gradients: d cost / d W^i for one example, L numbers.
    """

    activations: tuple[float, ...]
    pre_activations: tuple[float, ...]
    gradients: tuple[float, ...]
    weight_gradients: tuple[float, ...]


def variance_profile(
    widths: Sequence[int],
    weight_variances: Sequence[float],
    x_variance: float = 1.0,
    gradient_variance: float = 1.0,
    activation: str | Function = "linear",
    bias_variance: float = 0.0,
) -> VarianceProfile:
    """Predict the variances of signals and gradients in every layer of a random stack, without building it.

        Var z^i      = Var x prod_{i' < i} n_i' Var W^i'
        Var dC/ds^i  = Var dC/ds^d prod_{i < i' <= d} n_(i'+1) Var W^i'
        Var dC/dW^i  = Var z^i Var dC/ds^i

    for f = identity and d = L - 1 the last layer. For another f each factor of the forward product is multiplied by
    E f(sqrt(q^i) z)^2 / q^i and each factor of the backward products by E f'(sqrt(q^i) z)^2; q^i is the mean square
    of s^i.

    Args:
        widths: numbers of units n_0 to n_L.
        weight_variances: variances Var W^0 to Var W^(L-1) of the entries.
        x_variance: mean square of the inputs.
        gradient_variance: mean square of d cost / d s^d in the last layer.
        activation: f, a name or a callable; it also follows the last layer.
        bias_variance: variance of every bias.
    Raises:
        ShapeError: if the number of widths is not the number of variances plus one.
        ConfigError: if a width is below 1 or a variance negative.
    Source:
        Glorot & Bengio 2010, eqs. 4-7, with products over exactly the weights above s^i: eq. 6 as
        printed has one factor too many. Non-linear: Schoenholz et al. 2017, secs. 2 and 4.

    >>> profile = variance_profile([100] * 4, [1 / 300] * 3)
    >>> [round(v, 4) for v in profile.activations], [round(v, 4) for v in profile.gradients]
    ([1.0, 0.3333, 0.1111, 0.037], [0.1111, 0.3333, 1.0])
    >>> [round(v, 4) for v in profile.weight_gradients]
    [0.1111, 0.1111, 0.1111]
    """
    if len(widths) != len(weight_variances) + 1:
        raise ShapeError(
            f"L layers have L + 1 widths, got {len(widths)} widths for {len(weight_variances)} weight variances."
        )
    if min(widths) < 1 or min(x_variance, gradient_variance, bias_variance, *weight_variances) < 0:
        raise ConfigError(f"widths must be at least 1 and variances at least 0, got {widths} and {weight_variances}.")
    function = function_of(activation)
    activations, pre_activations = [float(x_variance)], []
    for width, variance in zip(widths, weight_variances, strict=False):
        pre_activations.append(width * variance * activations[-1] + bias_variance)
        activations.append(mean_square(function, pre_activations[-1]))
    gradients = [float(gradient_variance)]
    for i in range(len(weight_variances) - 1, 0, -1):
        passed = widths[i + 1] * weight_variances[i] * gradients[0]
        gradients.insert(0, mean_square_slope(function, pre_activations[i - 1]) * passed)
    products = tuple(z * s for z, s in zip(activations, gradients, strict=False))
    return VarianceProfile(tuple(activations), tuple(pre_activations), tuple(gradients), products)


def stack_of(model: nn.Module) -> tuple[list[int], list[float]]:
    """Return the widths and weight variances of a model's dense layers, the arguments of `variance_profile`.

    Layers are `nn.Linear`, Plain, and the transform H of highway layers, in the order of their registration; gates are
    left out. Variances are the mean squares of the current weights.

    Raises:
        ShapeError: if the model has no such layer, or they do not form one chain.
        InitError: if a module has other weights, which the profile would ignore.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    >>> _ = [nn.init.constant_(layer.weight, 0.5) for layer in (net[0], net[2])]
    >>> stack_of(net)
    ([3, 2, 1], [0.25, 0.25])
    """
    weights = list(_dense_weights(model))
    if not weights:
        raise ShapeError(f"{type(model).__name__} has no dense layer. Pass widths and variances directly.")
    for first, second in itertools.pairwise(weights):
        if first.shape[0] != second.shape[1]:
            raise ShapeError(
                f"the dense layers of {type(model).__name__} form no chain: a layer has {first.shape[0]} outputs, the "
                f"next one {second.shape[1]} inputs. Pass widths and variances directly."
            )
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    return widths, [float(weight.detach().to(torch.float64).square().mean()) for weight in weights]


def _dense_weights(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of a chain of layers in order, each of shape (outputs, inputs)."""
    inside_linear: set[int] = set()  # ids of the submodules that hold a parametrised weight
    for name, module in model.named_modules():
        if id(module) in inside_linear:
            continue
        if isinstance(module, nn.Linear):
            inside_linear.update(id(child) for child in module.modules())
            yield module.weight
            continue
        parts = list(module.init_parts()) if isinstance(module, HasParts) else []
        maps = [part.weight for part in parts if _TRANSFORM.fullmatch(part.name)]
        has_own = next(module.parameters(recurse=False), None) is not None
        if any(weight.dim() != 2 for weight in maps) or ((parts or has_own) and not maps):
            raise InitError(
                f"{name or 'the model itself'!r} ({type(module).__name__}) has weights that do not belong to a chain "
                "of dense layers. Pass widths and variances directly."
            )
        yield from maps
