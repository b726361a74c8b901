"""Populations compared with the same nets trained one by one: equal losses and weights."""

import pytest
import torch
from torch.testing import assert_close
from train_cases import CASES, RULES, Case, batches

from thruway.train import SGD, Population, exponential, train

EPOCHS, STEPS = 3, 4


def epochs():
    return [list(batches(STEPS, seed=epoch)) for epoch in range(EPOCHS)]


def together(case: Case, rules=RULES):
    population = Population(case.nets(len(rules)), rules, nesterov=case.nesterov, clip=case.clip)
    losses = []
    for epoch, steps in enumerate(epochs()):
        population.epoch = epoch
        losses += [population.step(*batch) for batch in steps]
    return torch.stack(losses), population


def one_by_one(case: Case, rules=RULES):
    """Train unfused nets with torch's SGD and the loop of this package."""
    losses, nets = [], case.nets(len(rules), fused=False)
    for net, rule in zip(nets, rules, strict=True):
        optimizer = torch.optim.SGD(
            net.parameters(), lr=rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay, nesterov=case.nesterov
        )
        steps = train(net, epochs(), optimizer, schedule=exponential(rule.lr_decay), clip=case.clip)
        losses.append(torch.stack([step.loss for step in steps]))
    return torch.stack(losses, dim=1), nets


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_members_train_as_they_do_alone(case):
    losses, population = together(case)
    alone, nets = one_by_one(case)
    # Sums in another order: 1e-16 each, amplified less than a thousandfold by twelve steps at rates below 1.
    assert_close(losses, alone, rtol=1e-12, atol=0)
    ((probe, _),) = batches(1, seed=99)
    outputs = population.outputs(probe)
    for member, net in enumerate(nets):
        assert_close(outputs[member], net(probe).detach(), rtol=1e-11, atol=1e-13)
        if not case.fused:
            assert_close(population.model(member).state_dict(), net.state_dict(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_member_does_not_depend_on_the_other_members(case):
    losses, _ = together(case)
    swapped, _ = together(case, [RULES[0], RULES[2], RULES[1]])
    assert torch.equal(losses[:, 0], swapped[:, 0])
    assert not torch.equal(losses[:, 1], swapped[:, 1])  # it has another rule now


@pytest.mark.parametrize(
    "change",
    [{"momentum": 0.6}, {"weight_decay": 0.05}, {"lr_decay": 0.8}, {"lr": 0.31}],
    ids=lambda change: next(iter(change)),
)
def test_every_field_of_a_rule_reaches_its_member(change):
    """Otherwise both sides of the comparison above could ignore the field."""
    base = {"lr": 0.3, "momentum": 0.5, "weight_decay": 0.01, "lr_decay": 0.9}
    losses, _ = together(CASES[0], [SGD(**base), SGD(**base), SGD(**base)])
    changed, _ = together(CASES[0], [SGD(**base), SGD(**{**base, **change}), SGD(**base)])
    assert torch.equal(losses[:, [0, 2]], changed[:, [0, 2]])
    assert (losses[-1, 1] - changed[-1, 1]).abs() > 1e-5


def test_each_member_has_its_own_gate_bias():
    population = Population(CASES[4].nets(3), RULES)
    gates = population.parameters["blocks.bias"][:, :, 4:]  # below the transform's, width 4
    assert [gates[member].unique().tolist() for member in range(3)] == [[-1.0], [-2.0], [-3.0]]


def test_clipping_bounds_the_update_of_each_member():
    clip, lr = 1e-3, 1.0
    population = Population(CASES[0].nets(3), [SGD(lr=lr)] * 3, clip=clip)
    before = {name: p.detach().clone() for name, p in population.parameters.items()}
    population.step(*next(batches(1)))
    moved = torch.stack(
        [(p.detach() - before[name]).flatten(1).norm(dim=1) for name, p in population.parameters.items()]
    )
    # The clip divides by norm + 1e-6 (as in torch), so the update is slightly shorter than the limit, never longer.
    assert (moved.norm(dim=0) <= lr * clip * (1 + 1e-12)).all()
    assert (moved.norm(dim=0) > lr * clip * 0.999).all()
