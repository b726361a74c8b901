"""Cures applied to models: numbers, equality with hand-written models, and reasons why a cure does not fit."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.diagnosing import CURES
from thruway.diagnosing.prescribing import APPLICATIONS, Case, NotApplicableError, Setup
from thruway.diagnosing.prescribing.facts import read_facts
from thruway.nn import Highway, HighwayLinear, Residual


def batches(*shape, count=2):
    made = torch.Generator().manual_seed(1)
    return [(torch.randn(shape, generator=made), None) for _ in range(count)]


def applied(name: str, model: nn.Module, data=None, optimizer=None, **changes):
    data = batches(16, 8) if data is None else data
    facts = read_facts(model, data[0][0])
    setup = Setup(model, optimizer or torch.optim.SGD(model.parameters(), lr=0.1), **changes)
    return APPLICATIONS[name].apply(setup, Case(facts, data, seed=0))


class Written(nn.Module):
    """A deep network with activations in its own code."""

    def __init__(self, depth=4, act=torch.tanh):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.head = nn.Linear(8, 3)
        self.act = act

    def forward(self, x):
        for layer in self.hidden:
            x = self.act(layer(x))
        return F.softmax(self.head(x), dim=-1)


class Block(nn.Module):
    def __init__(self, is_residual=False):
        super().__init__()
        self.map, self.is_residual = nn.Linear(8, 8), is_residual

    def forward(self, x):
        return x + torch.tanh(self.map(x)) if self.is_residual else torch.tanh(self.map(x))


class Gated(nn.Module):
    def __init__(self, bias=2.0):
        super().__init__()
        self.h, self.t, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        nn.init.constant_(self.t.bias, bias)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return torch.sigmoid(self.out(torch.tanh(self.h(x)) * t + x * (1 - t)))


def chain(act=nn.Tanh, depth=4):
    layers = [layer for _ in range(depth) for layer in (nn.Linear(8, 8), act())]
    return nn.Sequential(*layers, nn.Linear(8, 3))


# Critical initialisation


@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.GELU])
def test_critical_weights_carry_the_gradient_through_thirty_layers(act):
    """The law of chi_1 = 1: the gradient at the first layer has the size of that at the last."""
    torch.manual_seed(0)
    width = 128
    layers = [layer for _ in range(30) for layer in (nn.Linear(width, width), act())]
    model = nn.Sequential(*layers, nn.Linear(width, 3)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    data = [(0.3 * torch.randn(64, width, dtype=torch.float64), None)]
    applied("critical_init", model, data)
    (model(data[0][0]) ** 2).sum().backward()
    ratio = (model[2].weight.grad.norm() / model[58].weight.grad.norm()).item()
    assert 0.02 < ratio < 50


def test_the_code_of_a_critical_sigmoid_does_the_same_change():
    import thruway

    model, other = chain(nn.Sigmoid), chain(nn.Sigmoid)
    changed = applied("critical_init", model)
    exec(changed.code, {"thruway": thruway, "torch": torch, "model": other})
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        if ours.dim() == 2:  # other draws of the same size
            assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=1e-5)
    weight, bias = other[2].weight, other[2].bias
    torch.testing.assert_close(bias, -weight.sum(1) / 2)
    torch.testing.assert_close(model[2].bias, -model[2].weight.sum(1) / 2)


# Modules


def test_skips_in_a_sequential_are_those_written_by_hand():
    torch.manual_seed(0)
    model = chain()
    x, layers = batches(16, 8)[0][0], list(model)
    changed = applied("skip", model)
    assert [type(child) for child in changed.setup.model] == [Residual] * 4 + [nn.Linear]
    expected = x
    for place in range(0, 8, 2):
        expected = expected + 0.5 * torch.tanh(layers[place](expected))
    torch.testing.assert_close(changed.setup.model(x), layers[-1](expected))


def test_skips_around_functional_activations_are_those_written_by_hand():
    torch.manual_seed(0)
    model = Written()
    x = batches(16, 8)[0][0]
    changed = applied("skip", model)
    expected = x
    for layer in model.hidden:
        expected = expected + 0.5 * torch.tanh(layer(expected))
    torch.testing.assert_close(changed.setup.model(x), F.softmax(model.head(expected), -1))
    assert "x = x + 0.5 * activation(layer(x))" in changed.code


def test_skips_go_around_the_blocks_of_a_list():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(Block(), Block()), nn.Linear(8, 3))
    x, blocks = batches(16, 8)[0][0], list(model[0])
    changed = applied("skip", model)
    expected = x
    for block in blocks:
        expected = expected + 0.5**0.5 * block(expected)
    torch.testing.assert_close(changed.setup.model(x), model[1](expected))


def test_gates_start_at_the_bias_of_the_depth_and_are_trained():
    model = chain(depth=30)
    changed = applied("highway", model)
    blocks = [child for child in changed.setup.model if isinstance(child, Highway)]
    assert len(blocks) == 30
    assert blocks[7].gate.bias.tolist() == [-3.0] * 8
    held = {p for group in changed.setup.optimizer.param_groups for p in group["params"]}
    assert held == set(changed.setup.model.parameters())


def test_gates_around_functional_activations_are_those_written_by_hand():
    torch.manual_seed(0)
    model = Written(2)
    x = batches(16, 8)[0][0]
    changed = applied("highway", model)
    gates = [module.gate for module in changed.setup.model.activations.values()]
    expected = x
    for layer, gate in zip(model.hidden, gates, strict=True):
        t = torch.sigmoid(gate(expected))
        expected = torch.tanh(layer(expected)) * t + expected * (1 - t)
    torch.testing.assert_close(changed.setup.model(x), F.softmax(model.head(expected), -1))
    assert set(changed.setup.optimizer.param_groups[0]["params"]) == set(changed.setup.model.parameters())


def test_every_activation_gets_normalised_inputs():
    model = chain(nn.ReLU)
    changed = applied("normalise", model)
    assert sum(isinstance(m, nn.BatchNorm1d) for m in changed.setup.model.modules()) == 4
    assert not isinstance(changed.setup.model[-1], nn.Sequential)
    sequences = applied("normalise", Written(), batches(4, 5, 8)).setup.model
    assert sum(isinstance(m, nn.LayerNorm) for m in sequences.modules()) == 4


@pytest.mark.parametrize("build", [chain, Written])
def test_activations_are_exchanged_in_modules_and_in_code(build):
    torch.manual_seed(0)
    model = build()
    x = batches(16, 8)[0][0]
    changed = applied("relu", model)
    facts = read_facts(changed.setup.model, x)
    used = [call.name for call in facts.activations] if build is chain else []
    assert used == ["relu"] * 4 or build is Written
    maps = [m for m in changed.setup.model.modules() if isinstance(m, nn.Linear)]
    expected = x
    for layer in maps[:-1]:
        expected = torch.relu(layer(expected))
        assert layer.weight.norm().item() == pytest.approx(4.0, rel=1e-4)  # orthogonal, times sqrt(2)
    expected = maps[-1](expected)
    expected = F.softmax(expected, -1) if build is Written else expected
    torch.testing.assert_close(changed.setup.model(x), expected)


def test_activations_that_overwrite_their_input_are_exchanged_too():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            h = self.a(x)
            h.relu_()
            return self.b(h)

    model = InPlace()
    x = batches(16, 8)[0][0]
    changed = applied("tanh", model)
    torch.testing.assert_close(changed.setup.model(x), model.b(torch.tanh(model.a(x))))
    changed.setup.model(x).sum().backward()
    assert model.a.weight.grad.norm() > 0


def test_output_units_and_gates_keep_their_sigmoid():
    model = Gated()
    x = batches(16, 8)[0][0]
    changed = applied("relu", model)
    t = torch.sigmoid(model.t(x))
    expected = torch.sigmoid(model.out(torch.relu(model.h(x)) * t + x * (1 - t)))
    torch.testing.assert_close(changed.setup.model(x), expected)


@pytest.mark.parametrize("build", [Written, lambda: nn.Sequential(*chain(), nn.Softmax(dim=1))])
def test_the_last_softmax_is_dropped(build):
    torch.manual_seed(0)
    model = build()
    x = batches(16, 8)[0][0]
    before = model(x)
    changed = applied("logits", model)
    torch.testing.assert_close(F.softmax(changed.setup.model(x), -1), before)
    assert (changed.setup.model(x) < 0).any()


def test_softmax_over_one_unit_becomes_sigmoid():
    model = nn.Sequential(nn.Linear(8, 1), nn.Softmax(dim=1))
    x = batches(16, 8)[0][0]
    changed = applied("logits", model)
    torch.testing.assert_close(changed.setup.model(x), torch.sigmoid(model[0](x)))


# Numbers


def test_rates_of_all_groups_are_multiplied():
    model = chain()
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}]
    for name, factor in (("lower_lr", 0.1), ("much_lower_lr", 0.01), ("raise_lr", 10), ("much_raise_lr", 100)):
        made = torch.optim.Adam([dict(group) for group in groups], lr=0.02)
        made.param_groups[0]["params"] = list(model[0].parameters())
        changed = applied(name, model, optimizer=made)
        assert [g["lr"] for g in changed.setup.optimizer.param_groups] == pytest.approx([0.5 * factor, 0.02 * factor])


def test_inputs_are_scaled_feature_by_feature():
    data = [(x * torch.arange(1.0, 9.0) + 100, None) for x, _ in batches(64, 8)]
    changed = applied("scale_input", chain(), data)
    joint = torch.cat([changed.setup.scaling(x) for x, _ in data])
    torch.testing.assert_close(joint.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(joint.std(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)


def test_forgotten_parameters_and_those_of_a_copy():
    model, copy = chain(), chain()
    changed = applied("add_parameters", model, optimizer=torch.optim.SGD(copy.parameters(), lr=0.1))
    assert set(changed.setup.optimizer.param_groups[0]["params"]) == set(model.parameters())
    part = applied("add_parameters", model, optimizer=torch.optim.SGD(model[-1].parameters(), lr=0.1))
    held = part.setup.optimizer.param_groups[0]["params"]
    assert len(held) == len(set(held)) == 10


def test_frozen_parameters_are_trained():
    model = chain()
    model[0].requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    changed = applied("unfreeze", model, optimizer=torch.optim.SGD(trained, lr=0.1))
    assert set(changed.setup.optimizer.param_groups[0]["params"]) == set(model.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_equal_rows_are_drawn_anew_and_others_kept():
    model = chain()
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[2].weight, 0.3)
    kept = model[4].weight.clone()
    applied("break_symmetry", model)
    assert torch.equal(model[4].weight, kept)
    for layer in (model[0], model[2]):
        assert torch.unique(layer.weight, dim=0).shape[0] == 8
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 16), rel=0.3)


def test_biases_start_at_zero_except_those_of_gates():
    model = Gated(-2.0)
    applied("reset_bias", model)
    assert model.h.bias.abs().max() == 0
    assert model.t.bias.tolist() == [-2.0] * 8


def test_transform_gates_of_any_code_start_below_0():
    model = Gated(2.0)
    applied("gate_bias", model)
    assert model.t.bias.tolist() == [-1.0] * 8
    ours = nn.Sequential(*(HighwayLinear(8, gate_bias=3.0) for _ in range(20)))
    applied("gate_bias", ours)
    assert ours[4].bias.tolist() == [*ours[4].bias.tolist()[:8], *[-2.0] * 8]


# Reasons

RECURRENT = [(torch.zeros(4, 3, 8), None)]


class OnlyRecurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(8, 8, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


@pytest.mark.parametrize(
    ("name", "build", "reason"),
    [
        ("skip", lambda: nn.Sequential(Block(True), Block(True)), "has skip connections already .2 sums."),
        ("highway", lambda: nn.Linear(8, 3), "no block or layer has an output of the shape of its input"),
        ("normalise", lambda: nn.Linear(8, 3), "no activation takes the output"),
        ("relu", lambda: chain(nn.ReLU), "all hidden activations are relu already"),
        ("tanh", OnlyRecurrent, "no hidden activation was found"),
        ("logits", chain, "is not the result of softmax"),
        ("zero_grad", chain, "zeroed in every step already"),
        ("add_parameters", chain, "holds all trainable parameters already"),
        ("unfreeze", chain, "all parameters require gradients already"),
        ("break_symmetry", chain, "no weight has equal rows"),
        ("gate_bias", chain, "no transform gates"),
        ("reset_bias", lambda: nn.Linear(8, 3, bias=False), "all biases are zero already"),
    ],
)
def test_a_cure_that_does_not_fit_says_why(name, build, reason):
    with pytest.raises(NotApplicableError, match=reason):
        applied(name, build(), RECURRENT if build is OnlyRecurrent else None)


def test_inputs_that_cannot_be_scaled():
    tokens = [(torch.ones(4, 3, dtype=torch.long), None)]
    with pytest.raises(NotApplicableError, match="no floating-point tensor"):
        applied("scale_input", nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8)), tokens)
    scaled = [((x - x.mean(0)) / x.std(0, correction=0), None) for x, _ in batches(64, 8)]
    with pytest.raises(NotApplicableError, match="mean 0 and standard deviation 1 already"):
        applied("scale_input", chain(), scaled)


def test_every_cure_of_the_table_can_be_tried():
    assert set(APPLICATIONS) == set(CURES)
