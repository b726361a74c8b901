"""Layers of few ReLU units behind an average or a constant, half of which are zero by chance."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import thruway as tw


class Pooled(nn.Module):
    """Few units that take the average of a set of tokens, beside a path around them."""

    def __init__(self, units: int, seed: int, *, bias: float | None = None, is_constant: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.token, self.few, self.out = nn.Linear(6, 24), nn.Linear(24, units), nn.Linear(units + 6, 3)
        self.is_constant = is_constant
        if bias is not None:
            nn.init.constant_(self.few.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        average = F.relu(self.token(x)).mean(1)
        if self.is_constant:
            average = average * 0 + 1
        return self.out(torch.cat([F.relu(self.few(average)), x.mean(1)], 1))


def rules(net: nn.Module) -> set[str]:
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(25):
            x = torch.randn(64, 40, 6, generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(net(x), x.mean(1)[:, :3].argmax(1)).backward()
            optimizer.step()
    assert trace.series("dead_units").values[-1, 0] > 1 / 3
    return {finding.rule for root in tw.diagnose(trace) for finding in (root, *root.effects)}


@pytest.mark.parametrize(("units", "seed"), [(5, 2), (5, 5), (12, 5), (12, 6)])
def test_chance(units: int, seed: int) -> None:
    assert "dead_units" not in rules(Pooled(units, seed))


def test_inputs_that_are_all_the_same() -> None:
    assert "dead_units" not in rules(Pooled(40, 0, is_constant=True))


@pytest.mark.parametrize("units", [5, 12])
def test_a_bias_that_keeps_few_units_dead(units: int) -> None:
    assert "dead_units" in rules(Pooled(units, 0, bias=-4.0))
