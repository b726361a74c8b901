"""Losses that fall below all bounds, and negative losses that have a minimum."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw
from tests.diagnosing.made_traces import made_trace

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def found(loss: Loss, outputs: int, rate: float, steps: int = 60) -> list[str]:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(7, 20), nn.GELU(), nn.Linear(20, outputs))
    optimizer = torch.optim.Adam(net.parameters(), rate)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            x = torch.randn(48, 7)
            y = x.sum(1) + 0.05 * torch.randn(48)
            optimizer.zero_grad()
            loss(net, x, y).backward()
            optimizer.step()
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    return [finding.rule for finding in diagnosis]


def log_probability(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean log-probability of two classes."""
    return F.log_softmax(net(x), -1).gather(1, (y > 0).long()[:, None]).mean()


def normal(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return minus the log-density of a normal distribution, up to a constant; it is negative for small variances."""
    mean, log_variance = net(x).unbind(1)
    return (log_variance + (y - mean).square() / log_variance.exp()).mean() / 2


def test_a_log_probability_that_is_minimised() -> None:
    assert found(log_probability, 2, 0.02) == ["diverging"]
    assert found(lambda *batch: -log_probability(*batch), 2, 0.02) == []
    assert found(lambda *batch: -log_probability(*batch).div(2).sum(), 2, 0.02) == []


def test_a_penalty_of_the_wrong_sign() -> None:
    def loss(net: nn.Module, x: Tensor, y: Tensor, sign: float) -> Tensor:
        return F.mse_loss(net(x)[:, 0], y) + sign * sum(p.pow(4).sum() for p in net.parameters())

    assert found(lambda *batch: loss(*batch, -1.0), 1, 0.05, 80) == ["diverging"]
    assert "diverging" not in found(lambda *batch: loss(*batch, 1e-4), 1, 0.01, 80)


def test_a_negative_loss_with_a_minimum() -> None:
    assert "diverging" not in found(normal, 2, 0.01, 300)


@pytest.mark.parametrize(("depth", "expected"), [(3.0, []), (1e3, ["diverging"])])
def test_the_end_of_a_plateau_is_no_divergence(depth: float, expected: list[str]) -> None:
    """A loss that leaves a plateau falls faster and faster as well, but not to many times its size."""
    fall = np.exp(np.linspace(-7, 0, 40))
    numbers = {("step", "loss"): {"loss": 1.0 - depth * fall}, ("step", "gradient_norm"): {"gradient_norm": fall}}
    assert [f.rule for f in tw.diagnose(made_trace(numbers))] == expected
