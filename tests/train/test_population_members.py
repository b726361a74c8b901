"""Members with tied, frozen, unused or unusual parameters: trained as alone, or refused with an error."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from train_cases import seeded

from thruway.errors import ConfigError
from thruway.networks import mlp
from thruway.nn import Learnt, RandomSubset, Residual
from thruway.train import SGD, Population, train

RULE = SGD(lr=0.2, momentum=0.9, weight_decay=0.05)


class Tied(nn.Module):
    """One weight matrix used twice, and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(torch.tanh(self.encode(x)))


def _frozen():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[0].requires_grad_(False)
    return net


def _norm():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def _zero_dimensional():
    return Residual(nn.Linear(4, 4), scale=Learnt(0.0))


KINDS = {"tied and unused": Tied, "frozen": _frozen, "batch norm": _norm, "0-d scale": _zero_dimensional}


def _members(build, count=3):
    nets = [build().double() for _ in range(count)]
    for seed, net in enumerate(nets):
        rng = seeded(seed)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=rng))
    return nets


def _batches(count):
    rng = seeded(5)
    return [
        (torch.randn(6, 4, dtype=torch.float64, generator=rng), torch.randint(4, (6,), generator=rng))
        for _ in range(count)
    ]


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_members_train_as_they_do_alone(build, clip):
    nets = _members(build)
    population = Population(nets, [RULE] * 3, clip=clip)
    together = torch.stack([population.step(*batch) for batch in _batches(5)])
    for member, net in enumerate(nets):
        start = copy.deepcopy(net.state_dict())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, weight_decay=0.05)
        alone = torch.stack([step.loss for step in train(net, [_batches(5)], optimizer, clip=clip)])
        # The same sums in another order over five steps.
        assert_close(together[:, member], alone, rtol=1e-11, atol=0)
        copy_of_member = population.model(member)
        assert_close(copy_of_member.state_dict(), net.state_dict(), rtol=1e-10, atol=1e-13)
        assert [p.requires_grad for p in copy_of_member.parameters()] == [p.requires_grad for p in net.parameters()]
        for name, value in start.items():
            if name.startswith("unused") or (build is _frozen and name.startswith("0.")):
                assert torch.equal(copy_of_member.state_dict()[name], value)


def test_a_copied_member_keeps_tied_weights():
    member = Population(_members(Tied), [RULE] * 3).model(1)
    assert member.decode.weight is member.encode.weight


def test_a_non_persistent_buffer_is_copied():
    nets = _members(_norm)
    for index, net in enumerate(nets):
        net.register_buffer("mark", torch.tensor(float(index)), persistent=False)
    assert Population(nets, [RULE] * 3).model(2).mark == 2


def test_outputs_do_not_change_the_state():
    population = Population(_members(_norm), [RULE] * 3)
    (batch,) = _batches(1)
    before = {name: tensor.clone() for name, tensor in population.tensors().items()}
    outputs = population.outputs(batch[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in population.tensors().items())
    # In training mode, so normalised by the statistics of this batch.
    assert_close(outputs[1], population.model(1)(batch[0]).detach(), rtol=1e-12, atol=1e-13)
    population.step(*batch)
    assert not torch.equal(population.buffers["1.running_mean"], before["buffers/1.running_mean"])


def test_a_callable_activation_must_be_the_same_function():
    nets = [mlp("plain", 3, 4, 4, 2, activation=function) for function in (torch.sin, torch.cos, torch.sin)]
    with pytest.raises(ConfigError, match=r"model 1 differs from model 0.*same function"):
        Population(nets[:2], [RULE] * 2)
    assert len(Population(nets[::2], [RULE] * 2)) == 2


def test_members_must_freeze_and_tie_the_same_parameters():
    trainable = _frozen()
    trainable.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"model 1 differs.*frozen or tied"):
        Population([_frozen(), trainable], [RULE] * 2)
    untied = Tied()
    untied.decode.weight = nn.Parameter(untied.decode.weight.detach().clone())
    with pytest.raises(ConfigError, match=r"model 1 differs.*frozen or tied"):
        Population([Tied(), untied], [RULE] * 2)


@pytest.mark.parametrize("net", [nn.Tanh(), nn.Linear(2, 2).requires_grad_(False)], ids=["none", "all frozen"])
def test_models_without_trainable_parameters_are_refused(net):
    with pytest.raises(ConfigError, match="needs parameters to train"):
        Population([net], [RULE])


def test_random_subsets_are_refused():
    nets = [nn.Sequential(nn.Linear(4, 4), RandomSubset(Residual(nn.Linear(4, 4)), use=1)) for _ in range(2)]
    with pytest.raises(ConfigError, match=r"RandomSubset at '1' .*one by one with train\(\)"):
        Population(nets, [SGD(0.1)] * 2)


def test_stochastic_depth_is_refused():
    nets = [nn.Sequential(nn.Linear(4, 4), Residual(nn.Linear(4, 4), drop=0.5)) for _ in range(2)]
    with pytest.raises(ConfigError, match=r"Residual at '1' .*drop=0\.5.*one by one with train\(\)"):
        Population(nets, [RULE] * 2)
    population = Population([net.eval() for net in nets], [RULE] * 2)  # in evaluation mode nothing is random
    x = torch.ones(2, 4)
    assert_close(population.outputs(x)[1], nets[1](x).detach())


@pytest.mark.parametrize("field", ["lr", "weight_decay"])
def test_an_infinite_rule_is_refused(field):
    with pytest.raises(ConfigError, match=f"{field} must be finite and .*got inf"):
        SGD(**{"lr": 0.1, field: math.inf})
