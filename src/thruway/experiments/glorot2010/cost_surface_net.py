"""A small random net, and its two costs over two of its weights."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from thruway.experiments.glorot2010.cost_surface import Config, Cost

__all__ = ["RandomNet", "Surface", "draw_net", "guessing_cost", "surfaces"]


class RandomNet(NamedTuple):
    """softmax(W2^T tanh(W1^T x)), and what it is asked; all float64."""

    first: Tensor  # W1, (inputs, hidden)
    second: Tensor  # W2, (hidden, classes)
    inputs: Tensor  # (examples, inputs)
    labels: Tensor  # (examples,), int64


class Surface(NamedTuple):
    """A cost over a grid; rows are values of the second layer's weight, columns of the first layer's."""

    cost: Tensor
    slope: Tensor  # norm of the gradient with respect to the two weights


def draw_net(config: Config, generator: torch.Generator) -> RandomNet:
    """Gaussian inputs of variance 1, Gaussian weights of variance 1 / fan-in, labels of equal chance."""
    kind = {"generator": generator, "dtype": torch.float64}
    first = torch.randn(config.inputs, config.hidden, **kind) / math.sqrt(config.inputs)  # type: ignore[call-overload]
    second = torch.randn(config.hidden, config.classes, **kind) / math.sqrt(config.hidden)  # type: ignore[call-overload]
    inputs = torch.randn(config.examples, config.inputs, **kind)  # type: ignore[call-overload]
    labels = torch.randint(config.classes, (config.examples,), generator=generator)
    return RandomNet(*(each.to(config.device) for each in (first, second, inputs, labels)))


def surfaces(net: RandomNet, axis: Tensor) -> dict[Cost, Surface]:
    """Both costs where W1[0, 0] and W2[0, 0] take every pair of values of `axis`.

        cross-entropy   -log p_y                mean over examples, nats
        quadratic       |p - onehot(y)|^2       mean over examples

    Args:
        axis: (points,)
    Returns:
        Costs and slopes, (points, points).
    Source:
        Glorot & Bengio 2010, sec. 4.1, fig. 5.

    >>> config = Config(inputs=2, hidden=2, classes=2, examples=3)
    >>> found = surfaces(draw_net(config, torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 5))
    >>> {name: tuple(each.cost.shape) for name, each in found.items()}
    {'cross-entropy': (5, 5), 'quadratic': (5, 5)}
    """
    axis = axis.to(net.first)
    # A weight per point of the grid: the points do not mix, so one backward pass gives the gradient at each of them.
    shape = (len(axis), len(axis))
    second, first = (each.clone().requires_grad_() for each in (axis[:, None].expand(shape), axis.expand(shape)))
    log_p = F.log_softmax(_outputs(net, first, second), dim=-1)
    wanted = F.one_hot(net.labels, net.second.shape[1]).to(log_p)
    costs: dict[Cost, Tensor] = {
        "cross-entropy": -(log_p * wanted).sum(-1).mean(-1),
        "quadratic": (log_p.exp() - wanted).square().sum(-1).mean(-1),
    }
    found: dict[Cost, Surface] = {}
    for name, cost in costs.items():
        gradients = torch.autograd.grad(cost.sum(), (first, second), retain_graph=True)
        found[name] = Surface(cost.detach(), torch.hypot(*gradients))
    return found


def guessing_cost(cost: Cost, classes: int) -> float:
    """What a net pays that finds all classes equally likely.

    >>> guessing_cost("quadratic", 4)
    0.75
    """
    return math.log(classes) if cost == "cross-entropy" else 1 - 1 / classes


def _outputs(net: RandomNet, first: Tensor, second: Tensor) -> Tensor:
    """(points, points, examples, classes): only the first hidden unit and the first output see the two weights."""
    fixed = net.inputs @ net.first
    unit = torch.tanh(fixed[:, 0] + net.inputs[:, 0] * (first[..., None] - net.first[0, 0]))
    others = torch.tanh(fixed[:, 1:]) @ net.second[1:]
    to_first = unit * second[..., None]
    return others + torch.cat([to_first[..., None], unit[..., None] * net.second[0, 1:]], dim=-1)
