"""Diverged members: they are marked and masked, and do not change the others by a single bit."""

import math

import pytest
import torch
from train_cases import CASES, Case, batches

from thruway.train import SGD, Population

STEPS, DIVERGED = 8, 1
BY_NAME = {case.name: case for case in CASES}


def run(case: Case, rates: list[float], dtype: torch.dtype = torch.float32):
    rules = [SGD(lr=lr, momentum=0.9, weight_decay=0.01) for lr in rates]
    population = Population(case.nets(len(rates), dtype=dtype), rules, nesterov=case.nesterov, clip=case.clip)
    return torch.stack([population.step(*batch) for batch in batches(STEPS, dtype=dtype)]), population


@pytest.mark.parametrize("name", ["plain-relu-clip", "residual-nesterov", "highway-fused-relu-nesterov-clip"])
def test_the_others_are_not_affected(name):
    case = BY_NAME[name]
    expected, stable = run(case, [0.1, 0.1, 0.05, 0.2])
    losses, population = run(case, [0.1, 1e30, 0.05, 0.2])
    others = [0, 2, 3]
    assert torch.equal(losses[:, others], expected[:, others])
    for tensor, stable_tensor in zip(population.tensors().values(), stable.tensors().values(), strict=True):
        if tensor.dim():
            assert torch.equal(tensor[others], stable_tensor[others])
    assert stable.is_alive.all()
    assert population.is_alive.tolist() == [True, False, True, True]


@pytest.mark.parametrize("name", ["plain-relu-clip", "highway-fused"])
def test_it_is_marked_at_the_first_step_with_a_non_finite_loss(name):
    losses, population = run(BY_NAME[name], [0.1, 1e30, 0.05])
    at = int(population.diverged_at[DIVERGED])
    assert 0 < at < STEPS  # its first loss, of the initial weights, is finite
    assert losses[:at, DIVERGED].isfinite().all()
    assert losses[at:, DIVERGED].isnan().all()
    assert losses[:, [0, 2]].isfinite().all()
    assert population.diverged_at.tolist() == [-1, at, -1]


def test_its_outputs_are_nan_afterwards():
    _, population = run(BY_NAME["plain-relu-clip"], [0.1, 1e30, 0.05])
    assert not population.is_alive[DIVERGED]
    ((probe, _),) = batches(1, dtype=torch.float32)
    outputs = population.outputs(probe)
    assert outputs[DIVERGED].isnan().all()
    assert outputs[[0, 2]].isfinite().all()


def test_its_weights_stay_0():
    _, population = run(BY_NAME["plain-relu-clip"], [0.1, 1e30, 0.05])
    before = {name: p.detach().clone() for name, p in population.parameters.items()}
    population.step(*next(batches(1, dtype=torch.float32)))
    for name, p in population.parameters.items():
        assert not p[DIVERGED].any()
        assert not torch.equal(p[0], before[name][0])


def test_a_population_of_diverged_members_can_be_stepped():
    losses, population = run(BY_NAME["plain-relu-clip"], [1e30, 1e30])
    assert not population.is_alive.any()
    assert losses[-1].isnan().all()
    assert math.isnan(population.step(*next(batches(1, dtype=torch.float32)))[0])
