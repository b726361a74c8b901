"""Causes that are named by what was found, cures that fit them, and symptoms without recorded layers."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing.rules.exploding_gradient import EXPLODING_RATIO

SGD, Adam = torch.optim.SGD, torch.optim.Adam


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def classes(size=64, width=20):
    centres = torch.randn(10, width, generator=torch.Generator().manual_seed(1))

    def draw():
        y = torch.randint(0, 10, (size,))
        return centres[y] + torch.randn(size, width), y

    return draw


def run(net, optimizer, draw, loss=F.cross_entropy, steps=40, each=None, **options):
    with tw.watch(net, optimizer=optimizer, **options) as trace:
        for step in range(steps):
            optimizer.zero_grad()
            x, y = draw()
            loss(net(x), y).backward()
            optimizer.step()
            if each is not None:
                each(step)
    return trace


def only(trace):
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    (found,) = diagnosis
    return found


def cures(found):
    return [cure.name for cure in found.cures]


def mlp(*sizes, act=nn.ReLU):
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), act()]
    return nn.Sequential(*layers[:-1])


# NaN and infinite values


def test_bad_data_are_cured_in_the_data():
    net, draw, step = mlp(20, 32, 10), classes(), iter(range(40))

    def spoiled():
        x, y = draw()
        x[0, 0] = math.nan if next(step) == 5 else x[0, 0]
        return x, y

    found = only(run(net, Adam(net.parameters(), 1e-3), spoiled, steps=12))
    assert found.onset == 5
    assert cures(found) == ["check_data", "check_batch"]
    assert "the input" in found.cause


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.out, self.calls = nn.Linear(5, 5), nn.Linear(20, 10), 0

    def forward(self, x):
        self.calls += 1
        x = x.view(-1, 4, 5)
        scores = self.query(x) @ x.transpose(1, 2)
        if self.calls > 3:
            scores = scores.masked_fill(torch.ones(4, 4, dtype=torch.bool), -math.inf)
        return self.out((scores.softmax(-1) @ x).flatten(1))


def test_a_row_that_is_masked_as_a_whole():
    net = Masked()
    found = only(run(net, SGD(net.parameters(), 0.01), classes(), steps=8))
    assert (found.rule, found.onset, found.cures[0].name) == ("nan_or_inf", 3, "unmask")
    assert "softmax" in found.sites[0]


def test_the_loss_breaks_long_after_large_steps():
    net, step = mlp(2, 32, 1, act=nn.Tanh), iter(range(60))

    def draw():
        x = torch.randn(64, 2)
        return x, (x.sum(1, keepdim=True) > 0).float()

    def loss(outputs, y):
        p = torch.sigmoid(outputs) * (0.0 if next(step) == 20 else 1.0)
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()

    found = only(run(net, Adam(net.parameters(), 0.05), draw, loss, steps=50))
    assert (found.rule, found.since) == ("nan_or_inf", (19, 20))
    assert cures(found)[:2] == ["loss_on_logits", "epsilon"]


# The loss over the steps


def test_a_sign_that_turns_in_the_middle_of_training():
    net, batch = mlp(20, 32, 10, act=nn.Tanh), classes(256)()
    optimizer = SGD(net.parameters(), 0.05, momentum=0.9)

    def turn(step):
        optimizer.param_groups[0]["maximize"] = step >= 60

    found = only(run(net, optimizer, lambda: batch, steps=160, each=turn))
    assert found.rule == "diverging"
    assert 60 <= found.onset <= 72  # the momentum has to turn first
    assert found.cures[0].name == "check_sign"


def test_a_slow_rise_along_the_gradient():
    net = mlp(20, 32, 10)
    found = only(run(net, SGD(net.parameters(), 0.01, maximize=True), classes(256), steps=60))
    assert found.rule == "diverging"


@pytest.mark.parametrize(("decay_every", "rules"), [(2, ["lr_too_low"]), (30, [])])
def test_a_schedule_that_ends_long_before_the_training(decay_every, rules):
    net = mlp(20, 64, 10)
    optimizer = SGD(net.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, decay_every, 0.1)
    trace = run(net, optimizer, classes(256), steps=90, each=lambda step: schedule.step())
    assert [found.rule for found in tw.diagnose(trace)] == rules


def test_a_rate_is_lowered_by_what_the_cure_offers():
    net = mlp(20, 64, 64, 10)
    found = only(run(net, SGD(net.parameters(), 10.0), classes()))
    assert found.rule == "lr_too_high"
    for evidence in found.evidence:  # no row argues against the finding
        if evidence.quantity == "predicted_fall":
            assert evidence.value > evidence.expected
    factor = int(found.cause.rpartition("about ")[2].removesuffix("x."))
    assert 10**1.5 < factor < 10**2.5
    assert found.cures[0].text.startswith("divide the learning rate by 100")


# Constant outputs, saturated sites, ranks


@pytest.mark.parametrize(
    ("last", "sizes", "cure"),
    [(nn.Dropout(1.0), (20, 32), "lower_dropout"), (nn.LayerNorm(32, elementwise_affine=False), (20, 32), None)],
)
def test_an_output_without_input_names_what_loses_it(last, sizes, cure):
    net = nn.Sequential(mlp(*sizes), nn.ReLU(), last, nn.Linear(32, 10))
    diagnosis = tw.diagnose(run(net, SGD(net.parameters(), 0.1), classes(), steps=30))
    assert [found.rule for found in diagnosis] == (["constant_output"] if cure else [])
    assert not cure or cures(diagnosis[0]) == [cure]


class Matmuls(nn.Module):
    def __init__(self, draw_weight, depth):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(draw_weight(50, 50)) for _ in range(depth)])
        self.out = nn.Parameter(draw_weight(50, 10))

    def forward(self, x):
        for weight in self.weights:
            x = torch.sigmoid(x @ weight)
        return x @ self.out


def test_saturation_of_sites_without_layers():
    net, draw = Matmuls(torch.rand, 2), classes(width=50)

    def positive():
        x, y = draw()
        return x.abs() * 3, y

    found = only(run(net, SGD(net.parameters(), 0.1), positive, steps=40))
    assert (found.rule, found.sites) == ("poor_init", ("output", "sigmoid_2"))  # their mean is 0.5
    effects = {effect.rule: effect for effect in found.effects}
    assert (effects["saturated"].end, effects["saturated"].sites[0]) == ("high", "sigmoid")
    assert "constant_output" in [effect.rule for effect in effects["saturated"].effects]


def test_a_rank_that_collapses_in_activations_without_layers():
    net = Matmuls(lambda *shape: torch.randn(shape) / 7, 8)
    found = only(run(net, SGD(net.parameters(), 0.01), classes(width=50), steps=40))
    assert found.rule == "vanishing_gradient"
    assert "rank_collapse" in [effect.rule for effect in found.effects]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16, bias=False) for _ in range(3))
        nn.init.orthogonal_(self.value.weight)

    def forward(self, x):
        return (self.query(x) @ self.key(x).transpose(1, 2) / 4).softmax(-1) @ self.value(x)


class Tokens(nn.Module):
    def __init__(self, depth, skip):
        super().__init__()
        self.embedding, self.skip = nn.Embedding(16, 16), skip
        self.attention = nn.ModuleList(Attention() for _ in range(depth))
        self.out = nn.Linear(16, 16)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.attention:
            x = x + layer(x) if self.skip else layer(x)
        return self.out(x).transpose(1, 2)


@pytest.mark.parametrize(("skip", "rules"), [(False, ["rank_collapse"]), (True, [])])
def test_attention_without_skips_makes_tokens_alike(skip, rules):
    net = Tokens(8, skip)

    def copy():
        tokens = torch.randint(0, 16, (32, 10))
        return tokens, tokens

    trace = run(net, Adam(net.parameters(), 1e-3), copy, steps=40)
    assert [found.rule for found in tw.diagnose(trace)] == rules


# Norms, inputs, what is not seen


def test_the_growth_through_norms_is_that_of_theory():
    layers = [module for _ in range(60) for module in (nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(64, 10))
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    found = only(run(net, SGD(net.parameters(), 0.1), classes(width=64), steps=30))
    assert (found.rule, found.onset, found.cures[0].name) == ("exploding_gradient", 0, "skip")
    factor = next(evidence for evidence in found.evidence if evidence.role == "theory")
    assert factor.expected == pytest.approx(math.sqrt(math.pi / (math.pi - 1)))
    assert factor.value == pytest.approx(factor.expected, rel=0.05)
    assert found.evidence[0].value > EXPLODING_RATIO


@pytest.mark.parametrize(("scale", "rules"), [(1000.0, ["unscaled_input"]), (1.0, [])])
def test_a_recurrent_layer_that_takes_raw_inputs(scale, rules):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = nn.LSTM(3, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, x):
            return self.out(self.lstm(x)[0][:, -1])

    def draw():
        x = torch.randn(32, 6, 3)
        return x * scale, x[:, -2:, 0].sum(1, keepdim=True)

    net = Net()
    trace = run(net, Adam(net.parameters(), 5e-3), draw, F.mse_loss, steps=30)
    assert [found.rule for found in tw.diagnose(trace)] == rules


def test_inputs_that_make_the_first_loss():
    net = mlp(3, 32, 32, 1)

    def draw():
        x = torch.randn(64, 3)
        return x * torch.tensor([15000.0, 0.1, 10.0]) + torch.tensor([60000.0, 0.0, 1990.0]), x.sum(1, keepdim=True)

    assert only(run(net, Adam(net.parameters(), 1e-3), draw, F.mse_loss, steps=150)).rule == "unscaled_input"


def test_what_a_network_cannot_have_is_not_unseen():
    net = mlp(20, 32, 10, act=nn.Tanh)
    assert tw.diagnose(run(net, SGD(net.parameters(), 0.1), classes())).unseen == {}


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()


def test_states_are_words():
    net = nn.Sequential(mlp(20, 32, 32), Cut(), nn.Linear(32, 10))
    diagnosis = tw.diagnose(run(net, SGD(net.parameters(), 0.1), classes()))
    (found,) = diagnosis
    assert cures(found) == ["no_detach"]
    text = " ".join(repr(diagnosis).split())
    assert "without a gradient" in text
    assert "expected 7" not in text
