"""Findings that follow from another one: the root is what has to be changed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing import Diagnosis

Draw = Callable[[], tuple[Tensor, Tensor]]


def trained(net: nn.Module, draw: Draw, steps: int = 40) -> Diagnosis:
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            x, y = draw()
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    return diagnosis


def everything(diagnosis: Diagnosis) -> list[str]:
    found, left = [], list(diagnosis)
    while left:
        finding = left.pop(0)
        found.append(finding.rule)
        left += finding.effects
    return found


class Mean(nn.Module):
    """The mean over the positions, with or without the mean of each channel removed before."""

    def __init__(self, *, is_centred: bool) -> None:
        super().__init__()
        self.is_centred = is_centred

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True) if self.is_centred else x).mean(-1)


@pytest.mark.parametrize("is_centred", [True, False])
def test_a_mean_of_centred_values_is_the_cause_of_a_small_gradient(*, is_centred: bool) -> None:
    torch.manual_seed(0)
    convolutions = (nn.Conv1d(2, 16, 3), nn.GELU(), nn.Conv1d(16, 16, 3), nn.GELU(), nn.Conv1d(16, 24, 3))
    net = nn.Sequential(*convolutions, Mean(is_centred=is_centred), nn.Linear(24, 3))
    y = torch.arange(60) % 3
    x = torch.randn(60, 2, 20) + y[:, None, None]
    diagnosis = trained(net, lambda: (x, y))
    assert [f.rule for f in diagnosis] == (["constant_output"] if is_centred else [])
    assert "vanishing_gradient" not in everything(diagnosis)


class Recurrence(nn.Module):
    """A tanh recurrence with a cell of its own."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.take, self.keep, self.out = nn.Linear(3, 24), nn.Linear(24, 24), nn.Linear(24, 5)
        nn.init.normal_(self.take.weight, 0.0, scale)
        nn.init.orthogonal_(self.keep.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            h = torch.tanh(self.take(x[:, t]) + self.keep(h))
        return self.out(h)


@pytest.mark.parametrize("scale", [40.0, 0.3])
def test_large_input_weights_of_a_recurrence(scale: float) -> None:
    """They saturate every time step, and the gradient vanishes because of it."""
    torch.manual_seed(1)

    def draw() -> tuple[Tensor, Tensor]:
        x = torch.randn(80, 9, 3)
        return x, (5 * x[:, 0, 0].sigmoid()).long()

    diagnosis = trained(Recurrence(scale), draw, 60)
    if scale < 1:
        assert "saturated" not in everything(diagnosis)
        return
    finding = diagnosis[0]
    assert (finding.rule, finding.sites, finding.since) == ("saturated", ("take",), (None, 0))
    assert [effect.rule for effect in finding.effects] == ["vanishing_gradient"]
    assert "9 time steps" in finding.cause
