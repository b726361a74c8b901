"""Activations computed by the model's own code as x * g(x): the functions inside of g are no activations."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import watch

WIDTH = 4


class Function(nn.Module):
    """A module that applies `function`, with a map and a number to learn for those that use them."""

    def __init__(self, function: Callable[["Function", Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.map, self.act = function, nn.Linear(WIDTH, WIDTH), nn.Sigmoid()
        self.beta = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _cubic(x: Tensor) -> Tensor:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))


def _by_cdf(_: Function, x: Tensor) -> Tensor:
    cdf = 0.5 * (1.0 + torch.tanh(0.7978845608 * x * (1.0 + 0.044715 * x * x)))
    return x * cdf


def _halves(_: Function, x: Tensor) -> Tensor:
    value, gate = torch.cat((x, x), -1).chunk(2, -1)
    return value * torch.sigmoid(gate)


def _used_twice(_: Function, x: Tensor) -> Tensor:
    t = torch.sigmoid(x)
    return x * t + (1 - t) * x.cos()


INNER: dict[str, tuple[Callable[[Function, Tensor], Tensor], list[str]]] = {
    "gelu": (lambda _, x: 0.5 * x * (1.0 + torch.tanh(_cubic(x))), ["1.tanh"]),
    "gelu of a cdf": (_by_cdf, ["1.tanh"]),
    "silu": (lambda _, x: x * torch.sigmoid(x), ["1.sigmoid"]),
    "silu in the other order": (lambda _, x: torch.sigmoid(1.702 * x) * x, ["1.sigmoid"]),
    "silu of a module": (lambda own, x: x * own.act(x), ["1.act"]),
    "silu with a weight": (lambda own, x: x * torch.sigmoid(own.beta * x), ["1.sigmoid"]),
    "mish": (lambda _, x: x * torch.tanh(F.softplus(x)), ["1.softplus", "1.tanh"]),
    "hard swish": (lambda _, x: x * F.relu6(x + 3, inplace=True) / 6, ["1.relu6"]),
}
OUTER: dict[str, tuple[Callable[[Function, Tensor], Tensor], str, str, bool]] = {
    "a gated linear unit": (_halves, "1.sigmoid", "sigmoid", True),
    "a gate": (lambda own, x: x * torch.sigmoid(own.map(x)), "1.map.sigmoid", "sigmoid", True),
    "a gate of a sum": (lambda own, x: x * torch.tanh(x + own.map(x)), "1.tanh", "tanh", False),
    "a gate of the mean": (
        lambda _, x: x * torch.sigmoid(x.mean(-1, keepdim=True).expand_as(x)),
        "1.sigmoid",
        "sigmoid",
        True,
    ),
    "a gate of two signals": (_used_twice, "1.sigmoid", "sigmoid", True),
    "a squared relu": (lambda _, x: x * torch.relu(x), "1.relu", "relu", False),
    "another signal": (lambda own, x: own.map(x) * torch.tanh(x), "1.tanh", "tanh", False),
}


def _net(function: Callable[[Function, Tensor], Tensor]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, WIDTH), Function(function), nn.Linear(WIDTH, 2))


@pytest.mark.parametrize("name", INNER)
def test_a_function_inside_a_hand_written_activation_is_no_activation(name: str) -> None:
    function, inside = INNER[name]
    net = _net(function)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    with watch(net) as trace:
        for _ in range(4):  # full and replayed passes
            net(x).sum().backward()
    sites = {site.name: site for site in trace.sites if site.kind == "output"}
    assert [sites[name].activation for name in inside] == [None] * len(inside)
    assert not any(site.is_gate for site in sites.values())
    for quantity in ("saturation_low", "saturation_high", "zeros", "input_dependence"):
        assert quantity not in trace.quantities("output")
    std = trace.series("std")
    for name in inside:  # the site itself remains, at every step
        values = std.values[std.names.index(name)]
        assert values == pytest.approx(values[:1].repeat(4), rel=1e-6)
        assert values[0] > 0


@pytest.mark.parametrize("name", OUTER)
def test_a_gate_and_a_function_of_another_signal_remain(name: str) -> None:
    function, site, activation, is_gate = OUTER[name]
    net = _net(function)
    with watch(net) as trace:
        net(torch.randn(8, 3, generator=torch.Generator().manual_seed(1))).sum().backward()
    found = next(each for each in trace.sites if each.name == site and each.kind == "output")
    assert (found.activation, found.is_gate) == (activation, is_gate)
    assert site in trace.series("saturation").names


def test_the_first_step_keeps_the_numbers_of_other_activations() -> None:
    net = nn.Sequential(_net(INNER["gelu"][0]), nn.Tanh())
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    with watch(net) as trace:
        output = net(x)
        output.sum().backward()
    saturation = trace.series("saturation")
    assert saturation.names == ["1"]
    assert saturation.values[0, 0] == pytest.approx((output.abs() >= 0.9).float().mean().item())
