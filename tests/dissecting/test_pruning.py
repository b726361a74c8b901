"""Pruning: strategies against brute force, damages against lesions, and the smaller model."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from thruway.dissecting import Accuracy, Error, Loss, dissect
from thruway.errors import ConfigError
from thruway.networks import mlp


@pytest.fixture(scope="module")
def trained():
    """A residual net trained a little, so that its branches differ, with two halves of the data."""
    made = torch.Generator().manual_seed(0)
    net = mlp("residual", depth=8, width=16, inputs=6, classes=3, generator=made)
    x = torch.randn(300, 6, generator=made)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long() + (x[:, 3] > 1).long()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(net(x[:200]), y[:200]).backward()
        optimizer.step()
    net.eval()
    return net, dissect(net, x[:2]), [(x[:200], y[:200])], [(x[200:], y[200:])]


def loss_without(d, batches, which):
    ((x, y),) = batches
    with torch.no_grad():
        return F.cross_entropy(d.without(list(which))(x), y).item()


def test_greedy_is_the_explicit_search(trained):
    _, d, batches, _ = trained
    chosen = []
    for _ in range(4):
        left = [i for i in range(len(d.branches)) if i not in chosen]
        chosen.append(min(left, key=lambda i: loss_without(d, batches, [*chosen, i])))
    found = d.prune(Loss(batches), 4, candidates=None)
    assert list(found.chosen) == chosen
    assert found.evaluated == 7 + 6 + 5 + 4
    few = d.prune(Loss(batches), 4, candidates=2)
    assert few.evaluated == 7 + 2 + 2 + 2
    assert few[-1].damage <= 1.5 * found[-1].damage


def test_other_strategies_are_brute_force(trained):
    _, d, batches, _ = trained
    alone = [loss_without(d, batches, [i]) for i in range(len(d.branches))]
    assert list(d.prune(Loss(batches), 3, strategy="one-shot").chosen) == sorted(range(7), key=alone.__getitem__)[:3]
    blocks = [list(range(start, start + 3)) for start in range(5)]
    best = min(blocks, key=lambda block: loss_without(d, batches, block))
    assert list(d.prune(Loss(batches), 3, strategy="contiguous").chosen) == best
    influence = d.rankings([(x, None) for x, _ in batches]).order("influence")[:3]
    assert list(d.prune(Loss(batches), 3, strategy="block influence").chosen) == influence
    generator = torch.Generator().manual_seed(5)
    expected = torch.randperm(7, generator=torch.Generator().manual_seed(5))[:3].tolist()
    assert list(d.prune(Loss(batches), 3, strategy="random", generator=generator).chosen) == expected


def test_damages_are_those_of_the_lesions_and_of_the_model(trained):
    net, d, batches, held_out = trained
    found = d.prune(Loss(batches), 3, report=Loss(held_out))
    intact, reported = loss_without(d, batches, []), loss_without(d, held_out, [])
    for k, row in enumerate(found, 1):
        value = loss_without(d, batches, found.chosen[:k])
        assert row.value == pytest.approx(value, rel=1e-6)
        assert row.damage == pytest.approx(value - intact, abs=1e-6)
        assert row.reported == pytest.approx(loss_without(d, held_out, found.chosen[:k]) - reported, abs=1e-6)
        assert row.low <= row.reported <= row.high
    ((x, y),) = batches
    assert F.cross_entropy(found.model(x), y).item() == pytest.approx(found[-1].value, rel=1e-5)
    share = sum(p.numel() for p in found.model.parameters()) / sum(p.numel() for p in net.parameters())
    assert found[-1].parameters == pytest.approx(share)
    assert found.model is found.model


def test_damage_is_positive_for_the_worse(trained):
    _, d, batches, _ = trained
    error, accuracy = (d.prune(metric(batches), 5, strategy="one-shot") for metric in (Error, Accuracy))
    assert [row.damage for row in error] == pytest.approx([row.damage for row in accuracy])
    assert error[-1].damage > 0
    assert "5 branches removed by one-shot: error over 200 examples" in repr(error)
    assert error.table()["damage"].tolist() == [row.damage for row in error]


def test_no_further_branch_above_a_damage(trained):
    _, d, batches, _ = trained
    full = d.prune(Loss(batches), 6)
    limit = (full[2].damage + max(row.damage for row in full[3:])) / 2
    short = d.prune(Loss(batches), 6, max_damage=limit)
    assert short.chosen == tuple(
        row.index for row in itertools.takewhile(lambda row: row.damage <= limit, full)
    )  # fmt: skip
    nothing = d.prune(Loss(batches), 6, max_damage=-math.inf)
    assert nothing.chosen == ()
    ((x, _),) = batches
    assert torch.equal(nothing.model(x), d.model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remove": 0}, "from 1 to 7, got 0"),
        ({"remove": 8}, "from 1 to 7, got 8"),
        ({"remove": 2, "strategy": "gredy"}, "unknown strategy 'gredy'.*greedy"),
        ({"remove": 2, "candidates": 0}, "at least 1, or None"),
        ({"remove": 2, "evaluate": lambda model: 0.0}, "must be a metric such as Loss"),
        ({"remove": 2, "evaluate": Loss(iter([]))}, "can be read only once"),
        ({"remove": 2, "report": 3}, "report must be a metric"),
    ],
)
def test_wrong_arguments(trained, arguments, message):
    _, d, batches, _ = trained
    with pytest.raises(ConfigError, match=message):
        d.prune(**{"evaluate": Loss(batches), **arguments})
