"""Costs and slopes over the grid, compared with those of a network with the weights of each point."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from thruway.experiments.glorot2010.cost_surface import (
    Config,
    Surface,
    draw_net,
    flat_share,
    guessing_cost,
    is_flat,
    stuck_share,
    surfaces,
)
from thruway.seeding import generator

CASES = {
    "one of each": Config(inputs=1, hidden=1, classes=2, examples=1),
    "several": Config(inputs=3, hidden=4, classes=5, examples=6),
}


def at_point(net, w1, w2, cost):
    """The cost where the two weights have these values, and its gradient by central differences."""

    def value(a, b):
        first, second = net.first.clone(), net.second.clone()
        first[0, 0], second[0, 0] = a, b
        logits = torch.tanh(net.inputs @ first) @ second
        if cost == "cross-entropy":
            return F.cross_entropy(logits, net.labels).item()
        wanted = torch.eye(second.shape[1], dtype=torch.float64)[net.labels]
        return ((logits.softmax(1) - wanted) ** 2).sum(1).mean().item()

    h = 1e-5
    slopes = [(value(w1 + h, w2) - value(w1 - h, w2)) / (2 * h), (value(w1, w2 + h) - value(w1, w2 - h)) / (2 * h)]
    return value(w1, w2), math.hypot(*slopes)


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
@pytest.mark.parametrize("cost", ["cross-entropy", "quadratic"])
def test_every_point_is_the_net_with_those_weights(config, cost):
    net = draw_net(config, generator(3, "net"))
    axis = torch.tensor([-4.0, -0.5, 0.0, 1.0, 3.0], dtype=torch.float64)
    found = surfaces(net, axis)[cost]
    for (row, w2), (column, w1) in itertools.product(enumerate(axis.tolist()), repeat=2):
        value, slope = at_point(net, w1, w2, cost)
        assert found.cost[row, column].item() == pytest.approx(value, rel=1e-12)
        # A central difference with h = 1e-5 errs by h^2 times a third derivative, and 1e-16 / h by rounding.
        assert found.slope[row, column].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("cost", ["cross-entropy", "quadratic"])
def test_a_net_without_second_layer_guesses(cost):
    net = draw_net(CASES["several"], generator(0))
    found = surfaces(net._replace(second=torch.zeros_like(net.second)), torch.zeros(1))
    assert found[cost].cost.item() == pytest.approx(guessing_cost(cost, 5), rel=1e-12)


def test_draws_have_the_documented_variances():
    net = draw_net(Config(inputs=50, hidden=40, classes=30, examples=200), generator(0))
    for values, expected in ((net.first, 1 / 50), (net.second, 1 / 40), (net.inputs, 1.0)):
        # Of a Gaussian's square: variance 2, in units of its squared mean.
        assert abs(values.square().mean().item() / expected - 1) < 5 * math.sqrt(2 / values.numel())
    counts = net.labels.bincount(minlength=30)
    assert ((counts - 200 / 30).square().sum() / (200 / 30)).item() < 29 + 5 * math.sqrt(2 * 29)  # chi square


def test_the_same_generator_gives_the_same_net():
    a, b = (draw_net(CASES["several"], generator(1, "net")) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def a_surface():
    g = generator(0, "surface")
    return Surface(torch.rand(40, 30, generator=g) * 3, torch.rand(40, 30, generator=g))


def test_flatness_is_independent_of_the_scale_of_the_cost():
    made = a_surface()
    scaled = Surface(made.cost * 2**10, made.slope * 2**10)
    assert torch.equal(is_flat(made, 0.3), is_flat(scaled, 0.3))


def test_flat_share_counts_points():
    made = a_surface()
    # Uniform slopes up to nearly 1: a share of 0.3 +- 5 standard errors, with a largest slope within 1 % of 1
    assert abs(flat_share(made, 0.3) - 0.3) < 5 * math.sqrt(0.21 / 1200) + 0.003
    count = sum(s < 0.3 * made.slope.max() for s in made.slope.flatten())
    assert flat_share(made, 0.3) == int(count) / 1200
    stuck = sum(
        bool(s < 0.3 * made.slope.max() and c >= 1.5)
        for s, c in zip(made.slope.flatten(), made.cost.flatten(), strict=True)
    )
    assert stuck_share(made, 0.3, 1.5) == stuck / 1200


def test_a_level_cost_is_flat_everywhere():
    assert flat_share(Surface(torch.ones(3, 3), torch.zeros(3, 3)), 0.1) == 1.0
