"""Gradients written by hand, compared with autograd and torch's SGD in float64."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.activations import activation
from thruway.errors import CheckpointError, ConfigError
from thruway.experiments.methods import SLOPES, PlainNets, error_rates, layers_of
from thruway.networks import mlp

RATES = [0.5, 0.1, 1.0]
# Sums of a few dozen float64 terms in another order, over twenty steps that each may double the difference a little.
CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def models(name, depth, members=3):
    rng = torch.Generator().manual_seed(depth)
    return [mlp("plain", depth, 5, 7, 4, name, dtype=torch.float64, generator=rng) for _ in range(members)]


def some_batches(count, members=3, seed=1):
    rng = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield (
            torch.randn(members, 6, 7, generator=rng, dtype=torch.float64),
            torch.randint(4, (members, 6), generator=rng),
        )


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("name", SLOPES)
def test_each_member_is_trained_as_torch_would_alone(name, depth):
    twins = models(name, depth)
    nets = PlainNets(name, twins, RATES)
    optimizers = [torch.optim.SGD(twin.parameters(), lr=rate) for twin, rate in zip(twins, RATES, strict=True)]
    for inputs, labels in some_batches(20):
        nets.step(inputs, labels)
        for member, (twin, optimizer) in enumerate(zip(twins, optimizers, strict=True)):
            optimizer.zero_grad()
            F.cross_entropy(twin(inputs[member]), labels[member]).backward()
            optimizer.step()
    for member, twin in enumerate(twins):
        for layer, (weight, bias) in enumerate(layers_of(twin)):
            assert_close(nets.weights[layer][member], weight.detach(), **CLOSE)
            assert_close(nets.biases[layer][member], bias.detach(), **CLOSE)
    rng = torch.Generator().manual_seed(9)
    seen = torch.randn(1203, 7, generator=rng, dtype=torch.float64)  # more than are evaluated at once
    with torch.no_grad():
        assert_close(nets.outputs(seen), torch.stack([twin(seen) for twin in twins]), **CLOSE)


@pytest.mark.parametrize("name", SLOPES)
def test_the_slope_is_the_derivative_written_in_the_output(name):
    s = torch.linspace(-4, 4, 80, dtype=torch.float64, requires_grad=True)  # 0 itself is not among them
    z = activation(name).function(s)
    (slope,) = torch.autograd.grad(z.sum(), s)
    assert_close(SLOPES[name](z.detach()), slope, rtol=1e-12, atol=0)


def test_a_member_that_diverges_changes_no_other():
    beside, alone = PlainNets("tanh", models("tanh", 2), RATES), PlainNets("tanh", models("tanh", 2)[:1], RATES[:1])
    beside.weights[0][1] = float("nan")
    for inputs, labels in some_batches(5):
        beside.step(inputs, labels)
        alone.step(inputs[:1], labels[:1])
    for name, tensor in alone.tensors().items():
        assert_close(beside.tensors()[name][:1], tensor, **CLOSE)
    rates = error_rates(beside.outputs(torch.ones(9, 7, dtype=torch.float64)), torch.zeros(9, dtype=torch.long))
    assert rates.isnan().tolist() == [False, True, False]


def test_errors_are_counted_one_by_one():
    logits = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(3))
    labels = torch.randint(4, (50,), generator=torch.Generator().manual_seed(4))
    counted = [sum(int(row.argmax()) != int(y) for row, y in zip(m, labels, strict=True)) / 50 for m in logits]
    assert error_rates(logits, labels).tolist() == counted
    assert min(counted) > 0


def test_saved_tensors_are_loaded():
    nets, other = PlainNets("tanh", models("tanh", 2), RATES), PlainNets("tanh", models("tanh", 2), RATES)
    for inputs, labels in some_batches(3):
        nets.step(inputs, labels)
    other.load({name: tensor.clone() for name, tensor in nets.tensors().items()})
    for inputs, labels in some_batches(3, seed=2):
        nets.step(inputs, labels)
        other.step(inputs, labels)
    for name, tensor in nets.tensors().items():
        assert torch.equal(other.tensors()[name], tensor)


def test_wrong_tensors_and_arguments_are_refused():
    nets = PlainNets("tanh", models("tanh", 2), RATES)
    before = {name: tensor.clone() for name, tensor in nets.tensors().items()}
    deeper = PlainNets("tanh", models("tanh", 3), RATES).tensors()
    with pytest.raises(CheckpointError, match="other networks"):
        nets.load(deeper)
    assert all(torch.equal(tensor, before[name]) for name, tensor in nets.tensors().items())
    with pytest.raises(ConfigError, match=r"unknown activation 'relu'.*sigmoid, softsign, tanh"):
        PlainNets("relu", models("relu", 1), RATES)
    with pytest.raises(ConfigError, match="3 models, 2 rates"):
        PlainNets("tanh", models("tanh", 1), RATES[:2])
