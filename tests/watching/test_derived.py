"""Derived quantities against a direct computation."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.watching import watch


class Residual(nn.Module):
    """x + f(x), with f(x) this much smaller or larger."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = nn.Linear(6, 6), factor

    def forward(self, x: Tensor) -> Tensor:
        return x + self.factor * torch.tanh(self.inner(x))


def rms(x: Tensor) -> float:
    return x.detach().double().square().mean().sqrt().item()


def test_branch_ratio_is_the_branch_over_its_shortcut():
    net = nn.Sequential(nn.Linear(4, 6), *[Residual(factor) for factor in (1e-3, 1.0, 30.0)])
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    with watch(net) as trace:
        for _ in range(2):
            net(x)
    expected, h = [], net[0](x)
    for block in net[1:]:
        following = block(h)
        expected.append(rms(following - h) / rms(h))
        h = following
    series = trace.series("branch_ratio")
    assert [name.partition(".")[0] for name in series.names] == ["1", "2", "3"]
    # x + f - x in single precision: 2^-24 of x against f of 1e-3 x.
    np.testing.assert_allclose(series.values, np.array([expected] * 2).T, rtol=1e-3)


def test_a_plain_net_has_no_branches():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    with watch(net) as trace:
        net(torch.ones(2, 4))
    with pytest.raises(
        ConfigError, match="'branch_ratio' is derived from 'mean' and 'std' at residual adds, and this trace has none"
    ):
        trace.series("branch_ratio")


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_update_ratio_is_the_update_over_the_parameter(make):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    nn.init.zeros_(net[2].bias)
    optimizer = make(net.parameters(), 0.1)
    expected = []
    with watch(net, optimizer=optimizer) as trace:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).square().sum().backward()
            before = {name: p.detach().double().clone() for name, p in net.named_parameters()}
            optimizer.step()
            expected.append([((p - before[n]).norm() / before[n].norm()).item() for n, p in net.named_parameters()])
    series = trace.series("update_ratio", "update")
    assert series.names == [name for name, _ in net.named_parameters()]
    found = dict(zip(series.names, series.values, strict=True))
    truth = dict(zip(series.names, np.array(expected).T, strict=True))
    assert np.isnan(found["2.bias"][0])  # nothing to compare an update with
    for name, values in found.items():
        # The update is a difference of single-precision numbers of 1: 2^-24 against updates of 1e-2.
        np.testing.assert_allclose(values[1:], truth[name][1:], rtol=1e-4)


class Side(nn.Module):
    """Three activations of one input."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.tanh(x), torch.relu(x), torch.sigmoid(x)]


def test_saturation_is_that_of_both_ends():
    net, x = Side(), 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    with watch(net) as trace:
        tanh, relu, sigmoid = net(x)
    series = trace.series("saturation")
    found = dict(zip((site.activation for site in series.sites), series.values[:, 0], strict=True))
    expected = {
        "tanh": (tanh.abs() >= 0.9).double().mean().item(),
        "relu": (relu == 0).double().mean().item(),  # it has no upper end
        "sigmoid": ((sigmoid <= 0.05) | (sigmoid >= 0.95)).double().mean().item(),
    }
    assert found == pytest.approx(expected, rel=1e-6)  # shares of 200 in single precision
    for name, share in expected.items():
        assert 0 < share < 1, name
