"""What the paper's equations predict for the spread of signals and gradients at the start.

Layers are counted from 1, the hidden layer next to the input, to d. W^i is (n_i, n_{i-1}), s^i = W^i z^{i-1},
z^i = f(s^i), z^0 = x; C is the cost of one example. The paper counts z from the other side of each layer: its
z^{i+1} is z^i here, its n_{i'} Var[W^{i'}] and n_{i'+1} Var[W^{i'}] are n_{i-1} Var[W^i] and n_i Var[W^i].

Variances are mean squares: the equations assume means of 0.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from thruway.errors import ShapeError
from thruway.experiments.glorot2010.initialization import Scheme

__all__ = ["MEAN_SINGULAR_VALUE", "VARIANCES", "Predicted", "predict", "sampling_error"]

VARIANCES: dict[Scheme, Callable[[int, int], float]] = {
    "standard": lambda fan_in, fan_out: 1 / (3 * fan_in),  # eqs. 1 and 15
    "normalized": lambda fan_in, fan_out: 2 / (fan_in + fan_out),  # eqs. 12 and 16
}
"""Var[W] of a layer."""

MEAN_SINGULAR_VALUE = 8 / (3 * math.pi)
"""Of a large square matrix of independent entries of variance 1/n: the mean of the quarter-circle law."""


class Predicted(NamedTuple):
    """Mean squares in one hidden layer, as far as the activation is linear."""

    activation: float  # z^i, eq. 5
    gradient: float  # dC/ds^i: what eq. 2 implies
    gradient_as_printed: float  # eq. 6 to the letter: one factor more
    weight_gradient: float  # dC/dW^i of one example, eq. 7


def predict(
    widths: Sequence[int], scheme: Scheme, input_square: float, top_gradient_square: float, single_product: float
) -> list[Predicted]:
    """The spread in every hidden layer, from that of the input and that of the gradient at the top.

        E[(z^i)^2]     = E[x^2] prod_{j<=i} n_{j-1} Var[W^j]
        E[(dC/ds^i)^2] = E[(dC/ds^d)^2] prod_{i<j<=d} n_j Var[W^j]
        E[(dC/dW^i)^2] = E[(z^{i-1})^2] E[(dC/ds^i)^2]             for one example

    Args:
        widths: n_0 (the inputs), n_1, ..., n_d.
        scheme: a key of VARIANCES.
        input_square: E[x^2].
        top_gradient_square: E[(dC/ds^d)^2].
        single_product: E[x^2] E[(dC/ds^d)^2] of one example, or the mean of that over several.
    Returns:
        d predictions, the first layer first.
    Raises:
        ShapeError: for fewer than two widths.
    Source:
        Glorot & Bengio 2010, eqs. 4 to 7; with equal widths eqs. 13 and 14.

    >>> layers = predict([8, 8, 8, 8], "standard", 1.0, 0.9, 0.9)
    >>> [round(layer.gradient, 3) for layer in layers], [round(layer.weight_gradient, 3) for layer in layers]
    ([0.1, 0.3, 0.9], [0.1, 0.1, 0.1])
    """
    if len(widths) < 2:
        raise ShapeError(
            f"widths are those of the input and of each hidden layer, got {list(widths)}. Give two or more."
        )
    fans = list(pairwise(widths))
    variances = [VARIANCES[scheme](fan_in, fan_out) for fan_in, fan_out in fans]
    upwards = [fan_in * variance for (fan_in, _), variance in zip(fans, variances, strict=True)]
    downwards = [fan_out * variance for (_, fan_out), variance in zip(fans, variances, strict=True)]
    layers = []
    for layer in range(len(fans)):
        below, above = math.prod(upwards[:layer]), math.prod(downwards[layer + 1 :])
        layers.append(
            Predicted(
                activation=input_square * below * upwards[layer],
                gradient=top_gradient_square * above,
                gradient_as_printed=top_gradient_square * above * downwards[layer],
                weight_gradient=single_product * below * above,
            )
        )
    return layers


def sampling_error(maps: int, width: int) -> float:
    """How far chance may carry the measured mean square of a linear net from its expectation, relative to it.

        sqrt((1 + 2/n)^k - 1)

    A random map of n outputs, with entries no longer-tailed than Gaussian ones, multiplies the mean square of whatever
    it is given by a factor whose variance is at most 2/n of its squared mean, whatever the number of examples; k
    independent ones multiply up.

    Args:
        maps: k, random matrices between what is measured and what it is predicted from.
        width: n, the fewest outputs that any of them has.
    Returns:
        An upper bound of the standard deviation of measured / predicted, dimensionless.
    Source:
        Ours; a sum of squares of n Gaussian numbers has variance 2/n of its squared mean.

    >>> round(sampling_error(4, 100), 3)
    0.287
    """
    return math.sqrt((1 + 2 / width) ** maps - 1)
