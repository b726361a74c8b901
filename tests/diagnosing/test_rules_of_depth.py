"""Vanishing and exploding signals: each rule on a sick run and on the nearest harmless one."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.diagnosing.nets import batch, found, he, mlp, roots, scaled, train
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.flow import flow_between
from thruway.diagnosing.trunk import trunk_of


class Block(nn.Module):
    """A residual block, with a norm or without, whose branch may start at zero."""

    def __init__(self, width: int, *, has_norm: bool = True, is_zero: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if has_norm else nn.Identity()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        he(self.up.weight), he(self.down.weight)
        if is_zero:
            nn.init.zeros_(self.down.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(F.relu(self.up(self.norm(x))))


def residual(depth: int, **options: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 24), *(Block(24, **options) for _ in range(depth)), nn.Linear(24, 4))


def test_deep_sigmoid_vanishes_because_of_its_slope() -> None:
    finding = found(train(mlp(12, nn.Sigmoid)))["vanishing_gradient"]
    assert finding.sites[0] == "0"
    assert finding.since == (None, 0)
    assert "slope of sigmoid is at most 0.25" in finding.cause
    assert [evidence.role for evidence in finding.evidence] == ["threshold", "theory", "ruled out"]


@pytest.mark.parametrize("sigma", [0.6, 0.8])
def test_the_factor_per_layer_is_that_of_theory(sigma: float) -> None:
    reading = Reading(train(mlp(25, nn.Tanh, scaled(sigma), width=200), steps=1))
    trunk = trunk_of(reading)
    flow = flow_between(reading, trunk, 2, 22, 0)
    assert flow.gain == pytest.approx(sigma, rel=0.02)
    assert flow.factor == pytest.approx(flow.expected, rel=0.05)


def test_the_ratio_is_that_of_the_gradients() -> None:
    net = mlp(14, nn.Tanh, scaled(0.5))
    finding = found(train(net, steps=1))["vanishing_gradient"]
    norms: dict[nn.Module, float] = {}

    def hook(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        output.register_hook(lambda gradient: norms.update({module: gradient.norm().item()}))

    trained = mlp(14, nn.Tanh, scaled(0.5))  # the first step was taken with the same initial weights
    handles = [module.register_forward_hook(hook) for module in trained]
    F.cross_entropy(trained(batch()[0]), batch()[1]).backward()
    for handle in handles:
        handle.remove()
    linear = [norms[m] for m in trained if isinstance(m, nn.Linear)]
    assert finding.evidence[0].value == pytest.approx(linear[0] / max(linear), rel=0.05)


@pytest.mark.parametrize("every", [1, 10])
def test_large_weights_are_the_cause_of_an_explosion(every: int) -> None:
    trace = train(mlp(24, nn.Tanh, scaled(7.0)), every=every)
    assert roots(trace) == ["poor_init"]
    findings = found(trace)
    assert findings["exploding_gradient"].onset == 0
    assert findings["saturated"].onset == 0
    assert "too large" in findings["poor_init"].cause


def test_activations_of_a_residual_net_without_norms_explode() -> None:
    findings = found(train(residual(30, has_norm=False), steps=2, lr=1e-9))
    assert {"exploding_activation", "exploding_gradient"} & set(findings)


def test_growth_from_layer_to_layer_is_seen_without_an_optimizer() -> None:
    findings = found(train(mlp(16, nn.ReLU, scaled(3.0)), steps=2, lr=1e-12, optimizer=None))
    assert "exploding_activation" in findings
    assert "poor_init" not in findings


def test_one_layer_of_wrong_scale_is_named() -> None:
    net = mlp(6, nn.Tanh, scaled(1.0))
    net[4].weight.data *= 50
    finding = found(train(net))["poor_init"]
    assert finding.sites == ("4",)


def test_small_weights_and_weights_around_another_mean() -> None:
    assert roots(train(mlp(8, nn.ReLU, scaled(0.07)))) == ["poor_init"]
    shifted = found(train(mlp(8, nn.ReLU, lambda w: nn.init.uniform_(w, 0, 0.1)), lr=1e-5))
    assert "do not have mean 0" in shifted["poor_init"].cause


@pytest.mark.parametrize(
    "net",
    [
        mlp(30, nn.ReLU, he),
        mlp(4, nn.ReLU),
        mlp(20, nn.Tanh, scaled(1.0)),
        residual(30),
        residual(30, is_zero=True),
        residual(6, has_norm=False),
    ],
    ids=["deep He", "default", "deep tanh", "residual", "zero branches", "few blocks without norm"],
)
@pytest.mark.parametrize("steps", [1, 12])
def test_healthy_nets_have_no_finding_about_depth(net: nn.Sequential, steps: int) -> None:
    assert not {
        "vanishing_gradient",
        "exploding_gradient",
        "exploding_activation",
        "poor_init",
        "saturated",
        "dead_units",
        "dying_relu",
        "rank_collapse",
        "symmetric_init",
    } & set(found(train(net, steps=steps, lr=1e-3)))


def test_a_deep_net_with_batch_norm_is_healthy() -> None:
    torch.manual_seed(0)
    layers = [m for _ in range(20) for m in (nn.Linear(20, 20), nn.BatchNorm1d(20), nn.ReLU())]
    assert not set(found(train(nn.Sequential(*layers, nn.Linear(20, 4))))) & {"exploding_gradient", "poor_init"}


def test_pooling_is_no_vanishing_gradient() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    data = torch.randn(32, 1, 24, 24), torch.randint(0, 4, (32,))
    assert "vanishing_gradient" not in found(train(net, data=data))


class Recurrent(nn.Module):
    """A cell that is called once per time step; the loss reads the last state."""

    def __init__(self, gain: float, steps: int = 40, width: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head, self.steps = nn.RNNCell(20, width), nn.Linear(width, 4), steps
        nn.init.normal_(self.cell.weight_hh, 0, gain / math.sqrt(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = None
        for _ in range(self.steps):
            h = self.cell(x, h)
        return self.head(h)


def test_gradients_through_time_explode_in_the_cell() -> None:
    finding = found(train(Recurrent(4.0), steps=2, lr=1e-9))["exploding_gradient"]
    assert finding.sites == ("cell",)
    assert "per time step" in finding.cause
    assert "exploding_gradient" not in found(train(Recurrent(1.0), steps=2))


def test_gradients_of_a_fused_recurrence_are_expected_from_its_weight() -> None:
    class Fused(nn.Module):
        def __init__(self, gain: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.head = nn.RNN(8, 32, batch_first=True), nn.Linear(32, 4)
            nn.init.normal_(self.rnn.weight_hh_l0, 0, gain / math.sqrt(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    data = torch.randn(64, 50, 8), torch.randint(0, 4, (64,))
    assert found(train(Fused(5.0), steps=2, data=data))["exploding_gradient"].sites == ("rnn",)
    assert "exploding_gradient" not in found(train(Fused(1.0), steps=2, data=data))
