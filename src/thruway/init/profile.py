"""How activations and gradients shrink or grow along a stack, as theory predicts it."""

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

# H of a layer, or of one layer in a stack; the "gate.transform" of a wrapper is a gate.
_TRANSFORM = re.compile(r"(\d+\.)?transform")


@dataclass(frozen=True)
class VarianceProfile:
    """Predicted mean squares, one number per layer; they are variances where the mean is 0.

    For L layers s^i = W^i z^i + b^i, z^(i+1) = f(s^i), i = 0..L-1, averaged over units:

    Attributes:
        activations: z^0 = x to z^L, L + 1 numbers.
        pre_activations: s^0 to s^(L-1), L numbers.
        gradients: d cost / d s^i, L numbers; the last is what was given.
        weight_gradients: d cost / d W^i of one example, L numbers.
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
    """Predict the signal and the gradient in every layer of a random stack, without building it.

        Var z^i      = Var x prod_{i' < i} n_i' Var W^i'
        Var dC/ds^i  = Var dC/ds^d prod_{i < i' <= d} n_(i'+1) Var W^i'
        Var dC/dW^i  = Var z^i Var dC/ds^i

    for f = identity and d = L - 1 the last layer. Otherwise each factor forward is joined by E f(sqrt(q^i) z)^2 / q^i,
    each one back by E f'(sqrt(q^i) z)^2, where q^i is the mean square of s^i.

    Args:
        widths: n_0 to n_L, units.
        weight_variances: Var W^0 to Var W^(L-1), of single entries.
        x_variance: mean square of the inputs.
        gradient_variance: mean square of d cost / d s of the last layer.
        activation: f, by name or as a callable; also after the last layer.
        bias_variance: of every bias.
    Raises:
        ShapeError: if there is not one more width than there are variances.
        ConfigError: if a width is below 1 or a variance negative.
    Source:
        Glorot & Bengio 2010, eqs. 4-7, with the products over exactly the weights above s^i; the printed
        eq. 6 has one factor too many. Non-linear: Schoenholz et al. 2017, secs. 2 and 4.

    >>> profile = variance_profile([100] * 4, [1 / 300] * 3)
    >>> [round(v, 4) for v in profile.activations], [round(v, 4) for v in profile.gradients]
    ([1.0, 0.3333, 0.1111, 0.037], [0.1111, 0.3333, 1.0])
    >>> [round(v, 4) for v in profile.weight_gradients]
    [0.1111, 0.1111, 0.1111]
    """
    if len(widths) != len(weight_variances) + 1:
        raise ShapeError(
            f"L layers have L + 1 widths: got {len(widths)} widths for {len(weight_variances)} weight variances."
        )
    if min(widths) < 1 or min(x_variance, gradient_variance, bias_variance, *weight_variances) < 0:
        raise ConfigError(
            f"widths start at 1 and variances at 0, got widths {widths} and variances {weight_variances}."
        )
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
    """The widths and weight variances of a model's dense layers, as `variance_profile` takes them.

    Layers are `nn.Linear`, Plain, and the transform H of highway layers, in the order they were registered; gates are
    left out. Variances are the mean squares of the weights as they are now.

    Raises:
        ShapeError: if the model has no such layer, or they do not form one chain.
        InitError: if a module holds weights that are none of these: the profile would leave them out.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    >>> _ = [nn.init.constant_(layer.weight, 0.5) for layer in (net[0], net[2])]
    >>> stack_of(net)
    ([3, 2, 1], [0.25, 0.25])
    """
    weights = list(_dense_weights(model))
    if not weights:
        raise ShapeError(f"{type(model).__name__} has no dense layer: pass widths and variances by hand.")
    for first, second in itertools.pairwise(weights):
        if first.shape[0] != second.shape[1]:
            raise ShapeError(
                f"the dense layers of {type(model).__name__} form no chain: one puts out {first.shape[0]}, the "
                f"next reads {second.shape[1]}. Pass widths and variances by hand."
            )
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    return widths, [float(weight.detach().to(torch.float64).square().mean()) for weight in weights]


def _dense_weights(model: nn.Module) -> Iterator[Tensor]:
    """The (outputs, inputs) weights of a chain of layers, the first layer first."""
    inside_linear: set[int] = set()  # where a parametrised weight lies
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
                f"{name or 'the model itself'!r} ({type(module).__name__}) holds weights that have no place in a chain "
                "of dense layers. Pass widths and variances by hand."
            )
        yield from maps
