"""Dead units: exactly those whose outputs were all zero in the window."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from thruway.errors import ConfigError
from thruway.watching import QUANTITIES, watch
from thruway.watching.quantities.units import LastActive
from thruway.watching.sites import Site


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 20), st.sampled_from([0.1, 0.5, 0.9]))
def test_one_number_per_unit_replaces_the_history(seed, window, passes, activity):
    history = np.random.default_rng(seed).random((passes, 2, 7)) < activity
    fold, sites = LastActive(), (Site("a", "output", ""), Site("b", "output", ""))
    quantity = replace(QUANTITIES["dead_units"], window=window)
    for now in range(passes):
        found = fold(quantity.name, window, sites, torch.from_numpy(history[now]))
        expected = 1 - history[max(0, now + 1 - window) : now + 1].any(0).mean(1)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # sevenths in single precision


def test_quantities_and_sites_remember_apart():
    fold, site = LastActive(), Site("a", "output", "")
    short, long = (replace(QUANTITIES["dead_units"], name=str(w), window=w) for w in (1, 3))
    on, off = torch.tensor([[True]]), torch.tensor([[False]])
    assert fold(short.name, 1, (site,), on) == fold(long.name, 3, (site,), on) == 0
    assert fold(short.name, 1, (site,), off) == 1
    assert fold(long.name, 3, (site,), off) == 0
    assert fold(short.name, 1, (Site("b", "output", ""),), off) == 1


@pytest.mark.parametrize("net", [nn.ReLU(), nn.ReLU6(), nn.Hardswish()], ids=lambda net: type(net).__name__)
def test_a_unit_is_dead_when_every_input_gave_zero(net):
    quantity = replace(QUANTITIES["dead_units"], stride=1, window=2)
    alive = torch.tensor([[-9.0, 2.0, -9.0], [-9.0, -9.0, 2.0]])  # unit 0 dead, 1 and 2 by one input each
    with watch(net, quantities=[quantity]) as trace:
        for x in (alive, -9 * torch.ones(2, 3), -9 * torch.ones(2, 3), alive):
            net(x)
    # Dead only once the window holds no pass in which it was alive.
    np.testing.assert_allclose(trace.series("dead_units").values, [[1 / 3, 1 / 3, 1, 1 / 3]], rtol=1e-6)


def test_it_is_taken_at_relus_only():
    with watch(net := nn.Sequential(nn.Linear(3, 3), nn.Tanh()), quantities=["mean", "dead_units"]) as trace:
        net(torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="unknown quantity 'dead_units'"):
        trace.series("dead_units")


class Functional(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x)


@pytest.mark.parametrize(
    ("x", "share"),
    [
        (torch.tensor([1.0, -1.0, -1.0, -1.0]), 3 / 4),  # no batch: each number a unit
        (torch.tensor([[[1.0, -1.0], [-1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]]), 1 / 2),  # a sequence
        (torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1, 1) * torch.eye(3).sub(0.5).repeat(2, 4, 1, 1), 0.0),
        (torch.eye(3).repeat(2, 4, 1, 1) - torch.tensor([0.0, 9.0, 0.5, 1.0]).view(4, 1, 1), 1 / 2),
        (torch.tensor([[float("nan"), -1.0]]), 1 / 2),  # NaN is not death
        (torch.tensor(-1.0), 1.0),
    ],
    ids=["no batch", "sequence", "images, all alive", "images", "nan", "no dimension"],
)
def test_units_are_features_or_channels(x, share):
    net = Functional()
    with watch(net, quantities=["dead_units"]) as trace:
        net(x)
    assert trace.series("dead_units").values.item() == pytest.approx(share, rel=1e-6)


def test_a_step_of_micro_batches_is_dead_where_all_of_them_are():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3))
        net[0].bias.zero_()
    optimizer = torch.optim.SGD(net.parameters(), 0.0)
    with watch(net, quantities=["dead_units"], optimizer=optimizer) as trace:
        for row in (torch.tensor([[1.0, -1.0, -1.0]]), torch.tensor([[-1.0, 1.0, -1.0]])):
            net(row).sum().backward()
        optimizer.step()
    assert trace.series("dead_units").values.item() == pytest.approx(1 / 3, rel=1e-6)
