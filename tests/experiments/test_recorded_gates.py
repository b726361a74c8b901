"""Recorded gates of a highway network, against its layers computed one by one in float64."""

import copy

import pytest
import torch

from thruway.errors import ConfigError
from thruway.experiments.highway2015.recorded_gates import highway_stack, record_pass, sum_gates
from thruway.networks import mlp

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


def net_of(activation="tanh", depth=7):
    net = mlp("highway", depth, 6, 8, 3, activation, -1.0, fused=True, generator=torch.Generator().manual_seed(1))
    return net.double()


def images_of(count, seed=2):
    return torch.randn(count, 2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slowly(net, image, activation):
    """(inputs, gates, outputs) of every highway layer for one example, unit by unit."""
    x = activation(net.stem.weight @ image.flatten() + net.stem.bias)
    found = []
    for weight, bias in zip(net.blocks.weight, net.blocks.bias, strict=True):
        y, gates = x.clone(), x.clone()
        for unit in range(len(x)):
            h = activation(sum(weight[unit, i] * x[i] for i in range(len(x))) + bias[unit])
            row = len(x) + unit
            gates[unit] = 1 / (1 + torch.exp(-(sum(weight[row, i] * x[i] for i in range(len(x))) + bias[row])))
            y[unit] = gates[unit] * h + (1 - gates[unit]) * x[unit]
        found.append((x, gates, y))
        x = y
    return [torch.stack(each) for each in zip(*found, strict=True)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_layer_of_a_pass_is_recorded(activation):
    net, images = net_of(activation), images_of(4)
    recorded = record_pass(net, images)
    with torch.no_grad():
        for number, image in enumerate(images):
            slow = slowly(net, image, ACTIVATIONS[activation])
            for fast, one_by_one in zip(recorded[:3], slow, strict=True):
                # Float64 sums of seven numbers in another order, through six layers.
                torch.testing.assert_close(fast[:, number], one_by_one, rtol=1e-12, atol=1e-14)
        assert torch.equal(recorded.logits, net(images))


def test_recording_leaves_no_hook_and_changes_nothing(monkeypatch):
    net = net_of()
    before = copy.deepcopy(net.state_dict())
    record_pass(net, images_of(2))
    monkeypatch.setattr(net.head, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        record_pass(net, images_of(2))
    assert not [module for module in net.modules() if module._forward_hooks]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_sums_are_those_over_single_examples():
    net, images = net_of(), images_of(11, seed=4)
    labels = torch.tensor([0, 2, 2, 1, 0, 0, 2, 1, 2, 0, 2])
    sums = sum_gates(net, [(images[:4], labels[:4]), (images[4:], labels[4:])], classes=3)
    gates = torch.zeros(3, 6, 6, dtype=torch.float64)
    change, inputs = torch.zeros(2, 6, dtype=torch.float64)
    sparseness, wrong = 0.0, 0
    with torch.no_grad():
        for image, label in zip(images, labels.tolist(), strict=True):
            x, t, y = slowly(net, image, torch.tanh)
            gates[label] += t
            change += torch.stack([sum((b - a) ** 2 for a, b in zip(x[i], y[i], strict=True)) for i in range(6)])
            inputs += torch.stack([sum(a**2 for a in layer) for layer in x])
            units = [gate.item() for layer in t for gate in layer]
            sparseness += (sum(units) / len(units)) ** 2 / (sum(u * u for u in units) / len(units))
            wrong += int(net(image[None])[0].argmax().item() != label)
    assert sums.counts.tolist() == [4, 2, 5]
    # As above, and eleven examples added up in another order.
    for fast, slow in ((sums.gates, gates), (sums.change, change), (sums.inputs, inputs)):
        torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-13)
    assert sums.sparseness == pytest.approx(sparseness, rel=1e-11)
    assert sums.wrong == wrong
    assert 0 < wrong < 11


def test_gates_that_are_all_alike_have_a_sparseness_of_one():
    net = net_of()
    with torch.no_grad():
        net.blocks.weight[:, 6:] = 0
        net.blocks.bias[:, 6:] = -2
    sums = sum_gates(net, [(images_of(5), torch.zeros(5, dtype=torch.long))], classes=1)
    assert sums.sparseness / 5 == pytest.approx(1, rel=1e-12)
    with torch.no_grad():
        net.blocks.bias[:, 6:] = -1000.0
        net.blocks.bias[0, 6:9] = 1000.0  # 3 of 36 wide open, the others shut
    sums = sum_gates(net, [(images_of(5), torch.zeros(5, dtype=torch.long))], classes=1)
    assert sums.sparseness / 5 == pytest.approx(3 / 36, rel=1e-12)


def test_a_net_without_one_stack_is_refused():
    layered = mlp("highway", 4, 6, 8, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=r"must have one HighwayStack, but has 0\. Build it with fused=True"):
        highway_stack(layered)
    with pytest.raises(ConfigError, match="but has 2"):
        highway_stack(torch.nn.Sequential(net_of(), net_of()))
