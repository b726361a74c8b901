"""The nets of the study, with the paper's letters as names of their layers."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from thruway import activations, init
from thruway.experiments.glorot2010.initialization import SCHEMES, Scheme

__all__ = ["build_net", "hidden_layer"]


def build_net(
    widths: Sequence[int], classes: int, activation: str, scheme: Scheme, generator: torch.Generator
) -> nn.Sequential:
    """s1, z1, s2, z2, ..., and the linear `output`; biases 0.

    The same generator gives the two schemes the same random numbers, scaled, so that they can be compared in pairs.

    Args:
        widths: inputs and units of each hidden layer.
        activation: a key of ACTIVATIONS.
        scheme: a key of SCHEMES.

    >>> net = build_net([4, 3, 2], 5, "tanh", "normalized", torch.Generator().manual_seed(0))
    >>> [name for name, _ in net.named_children()]
    ['s1', 'z1', 's2', 'z2', 'output']
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layers[f"s{number}"] = _linear(fan_in, fan_out)
        layers[f"z{number}"] = activations.activation_module(activation)
    layers["output"] = _linear(widths[-1], classes)
    net = nn.Sequential(layers)
    init.initialize(net, SCHEMES[scheme], generator=generator, gain=1.0)
    return net


def hidden_layer(net: nn.Sequential, number: int) -> nn.Sequential:
    """Hidden layer `number`, from 1: the map from z^{i-1} to z^i."""
    return nn.Sequential(*list(net.children())[2 * number - 2 : 2 * number])


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    # nn.Linear draws from the global generator as it is built; on the meta device it draws nothing.
    return nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")
