"""Populations of convolutional nets, compared with nets trained one by one, including batch norm statistics."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from train_cases import seeded

from thruway.networks import gated_resnet, highway_conv
from thruway.train import SGD, Population

RULES = [SGD(lr=0.1, momentum=0.9, weight_decay=0.01), SGD(lr=0.02, momentum=0.5), SGD(lr=0.3)]
STEPS, CLASSES = 4, 10


def highway(member: int) -> torch.nn.Module:
    return highway_conv("mnist", width=4, size=8, dropout=False, dtype=torch.float64, generator=seeded(member))


def gated(joining: str):
    def build(member: int) -> torch.nn.Module:
        bias = -1.0 - member
        return gated_resnet(8, joining, bias, (2, 4, 4), 1, dtype=torch.float64, generator=seeded(member))

    return build


NETS = {"highway_conv": highway, "gated_resnet highway": gated("highway"), "gated_resnet exclusive": gated("exclusive")}


def batches():
    rng = seeded(7)
    for _ in range(STEPS):
        images = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=rng)
        yield images, torch.randint(CLASSES, (6,), generator=rng)


@pytest.mark.parametrize("name", NETS)
def test_convolutional_members_train_as_they_do_alone(name: str) -> None:
    nets = [NETS[name](member) for member in range(len(RULES))]
    starts = copy.deepcopy(nets)
    population = Population(nets, RULES)
    together = torch.stack([population.step(*batch) for batch in batches()])
    for member, (net, rule) in enumerate(zip(starts, RULES, strict=True)):
        before = copy.deepcopy(net.state_dict())
        optimiser = torch.optim.SGD(
            net.parameters(), lr=rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay
        )
        for step, (images, targets) in enumerate(batches()):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(images), targets)
            # float64: one grouped convolution sums in a different order than three, and 4 steps amplify the difference.
            assert_close(together[step, member], loss.detach(), rtol=1e-9, atol=1e-11)
            loss.backward()
            optimiser.step()
        trained = population.model(member).state_dict()
        assert_close(trained, net.state_dict(), rtol=1e-8, atol=1e-10)
        moved = [(trained[key] - before[key]).abs().max() for key in trained if trained[key].is_floating_point()]
        assert min(moved) > 1e-6, "every weight and every running statistic has changed"
