"""State of a population: checkpoints, copies of members, and checks of the arguments."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from train_cases import CASES, DEPTH, RULES, batches, seeded

from thruway.activations import activation_module
from thruway.errors import CheckpointError, ConfigError
from thruway.networks import mlp
from thruway.nn import Plain, Residual
from thruway.train import SGD, Population

FUSED = CASES[4]


def trained(case=FUSED, *, seed=0, rules=RULES, steps=3):
    population = Population(case.nets(len(rules), seed=seed), rules)
    for batch in batches(steps):
        population.step(*batch)
    return population


def copied(population):
    return {name: tensor.clone() for name, tensor in population.tensors().items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_checkpoint_continues_bit_for_bit(case):
    # One member diverges: its weight decay alone multiplies the weights by 1e200 per step.
    rules = [RULES[0], SGD(lr=1e100, weight_decay=1e100), RULES[2]]
    population = trained(case, rules=rules, steps=4)
    state = copied(population)
    other = trained(case, rules=rules, seed=1, steps=1)
    other.load(state)
    for each in (population, other):
        each.epoch = 2
    losses = [[each.step(*batch) for batch in batches(4, seed=8)] for each in (population, other)]
    assert torch.equal(torch.stack(losses[0]).nan_to_num(-1), torch.stack(losses[1]).nan_to_num(-1))
    assert not population.is_alive.all()
    for name, tensor in population.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), name


def test_loading_copies():
    population, other = trained(), trained(seed=1)
    state = copied(population)
    other.load(state)
    other.step(*next(batches(1)))
    assert all(torch.equal(tensor, state[name]) for name, tensor in population.tensors().items())


def _without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: _without(s, "velocity/head.bias"), "velocity/head.bias"),
        (lambda s: {**s, "parameters/extra": torch.zeros(3)}, "parameters/extra"),
        (lambda s: {**s, "velocity/head.weight": torch.zeros(2, 3, 4, dtype=torch.float64)}, "velocity/head.weight"),
        (lambda s: {**s, "parameters/head.bias": s["parameters/head.bias"].float()}, "parameters/head.bias"),
    ],
    ids=["missing", "unknown", "shape", "dtype"],
)
def test_a_checkpoint_of_another_population_changes_nothing(change, named):
    population = trained(seed=1)
    before = copied(population)
    with pytest.raises(CheckpointError, match=f"another population.*{named}"):
        population.load(change(copied(trained())))
    assert all(torch.equal(tensor, before[name]) for name, tensor in population.tensors().items())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_copied_member_computes_the_same(case):
    population = trained(case)
    ((probe, _),) = batches(1, seed=99)
    outputs = population.outputs(probe)
    for member in range(len(population)):
        assert_close(population.model(member)(probe), outputs[member], rtol=1e-12, atol=1e-14)  # order of sums
    assert not torch.allclose(outputs[0], outputs[1])


def test_a_copied_member_shares_no_memory():
    population = trained()
    ((probe, _),) = batches(1, seed=99)
    member, before = population.model(1), population.outputs(probe)
    outputs = member(probe).detach()
    with torch.no_grad():
        for parameter in population.model(1).parameters():
            parameter.zero_()
    assert torch.equal(population.outputs(probe), before)
    population.step(*next(batches(1)))
    assert torch.equal(member(probe), outputs)
    assert not torch.equal(population.outputs(probe), before)


def test_training_does_not_change_the_original_models():
    nets = FUSED.nets(3)
    population = Population(nets, RULES)
    population.step(*next(batches(1)))
    for net, untouched in zip(nets, FUSED.nets(3), strict=True):
        assert all(torch.equal(p, untouched.state_dict()[name]) for name, p in net.state_dict().items())


def test_returned_tensors_are_not_overwritten():
    """Activations use memory that the next step reuses; returned tensors must not."""
    population = Population(FUSED.nets(3), RULES)
    ((probe, _),) = batches(1, seed=99)
    kept, copies = [], []
    for batch in batches(4):
        kept += [population.step(*batch), population.outputs(probe)]
        copies += [tensor.clone() for tensor in kept[-2:]]
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))
    assert not torch.equal(kept[0], kept[2])


def _residual(scale):
    return Residual(Plain(4, 4, generator=seeded()), scale=scale)


@pytest.mark.parametrize(
    "other",
    [
        mlp("plain", DEPTH + 1, 4, 5, 3, generator=seeded()),
        mlp("plain", DEPTH, 5, 5, 3, generator=seeded()),
        mlp("residual", DEPTH, 4, 5, 3, generator=seeded()),
        mlp("plain", DEPTH, 4, 5, 3, "tanh", generator=seeded()),
        mlp("plain", DEPTH, 4, 5, 3, generator=seeded(), dtype=torch.float64),
    ],
    ids=["depth", "width", "block", "activation", "dtype"],
)
def test_members_of_another_architecture_are_refused(other):
    first = mlp("plain", DEPTH, 4, 5, 3, "relu", generator=seeded())
    with pytest.raises(ConfigError, match="model 1 differs from model 0"):
        Population([first, other], [SGD(lr=0.1)] * 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (mlp("highway", 3, 4, 5, 3, "tanh", fused=True), mlp("highway", 3, 4, 5, 3, "relu", fused=True)),
        (_residual(0.5), _residual(1.0)),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))),
        (nn.Linear(2, 2).train(), nn.Linear(2, 2).eval()),
    ],
    ids=["activation of a fused stack", "residual scale", "dropout", "mode"],
)
def test_members_with_other_constants_are_refused(first, second):
    """One module computes all members, so a different constant of a member would be ignored."""
    with pytest.raises(ConfigError, match="model 1 differs from model 0"):
        Population([first, second], [SGD(lr=0.1)] * 2)


def test_gate_biases_may_differ():
    nets = [mlp("highway", 3, 4, 5, 3, gate_bias=bias, fused=fused) for fused in (True, False) for bias in (-1.0, -3.0)]
    assert len(Population(nets[:2], [SGD(lr=0.1)] * 2)) == len(Population(nets[2:], [SGD(lr=0.1)] * 2)) == 2


@pytest.mark.parametrize(("models", "rules"), [(0, 0), (2, 1), (1, 2)])
def test_one_rule_per_model(models, rules):
    with pytest.raises(ConfigError, match=f"got {models} models, {rules} rules"):
        Population(FUSED.nets(models), RULES[:rules])


@pytest.mark.parametrize("clip", [0, -2.0])
def test_an_invalid_clip_is_refused(clip):
    with pytest.raises(ConfigError, match=f"clip must be above 0.*got {clip}"):
        Population(FUSED.nets(1), RULES[:1], clip=clip)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("lr", 0.0, "finite and above 0"),
        ("lr", math.nan, "finite and above 0"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("momentum", -0.1, r"in \[0, 1\)"),
        ("weight_decay", -1e-4, "finite and at least 0"),
        ("lr_decay", 0.0, r"in \(0, 1\]"),
        ("lr_decay", 1.5, r"in \(0, 1\]"),
    ],
)
def test_a_rule_names_the_invalid_value(field, value, allowed):
    with pytest.raises(ConfigError, match=f"{field} must be {allowed}, got {value}"):
        SGD(**{"lr": 0.1, field: value})


def test_a_callable_activation_is_allowed():
    nets = [nn.Sequential(nn.Linear(2, 2), activation_module(torch.sin)) for _ in range(2)]
    assert len(Population(nets, [SGD(lr=0.1)] * 2)) == 2
