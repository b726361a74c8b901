"""Faults inside of a model's own code: two functions in a row, gates of fused layers, weights without a module."""

import copy
import itertools
import math
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw
from tests.diagnosing.planted import GPT, train_gpt
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.normed_weights import attention_peaks

Adam = torch.optim.Adam


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def roots(trace):
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    return [finding.rule for finding in diagnosis]


def train(net, draw, loss=F.cross_entropy, *, steps=30, rate=1e-3):
    optimizer = Adam(net.parameters(), rate)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(steps):
            x, y = draw()
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()
    return trace


def classes(width=20, count=10, size=64):
    """Return a function that draws batches of noisy classes."""
    centres = 2 * torch.randn(count, width, generator=torch.Generator().manual_seed(1))

    def draw():
        y = torch.randint(0, count, (size,))
        return centres[y] + torch.randn(size, width), y

    return draw


# Softmax twice


class Ends(nn.Module):
    """A classifier that applies functions to its logits one after another."""

    def __init__(self, *functions):
        super().__init__()
        self.hidden, self.head = nn.Linear(20, 32), nn.Linear(32, 10)
        self.functions = functions

    def forward(self, x):
        x = self.head(torch.relu(self.hidden(x)))
        for function in self.functions:
            x = function(x)
        return x


def softmax(x):
    return F.softmax(x, dim=-1)


def log_softmax(x):
    return F.log_softmax(x, dim=-1)


def rows(x):
    return x.unsqueeze(1).flatten(1)


@pytest.mark.parametrize(
    ("functions", "loss", "pair"),
    [
        ((softmax, log_softmax), F.nll_loss, "log_softmax to the result of softmax"),
        ((softmax, rows, log_softmax), F.nll_loss, "log_softmax to the result of softmax"),
        ((torch.sigmoid, log_softmax), F.nll_loss, "log_softmax to the result of sigmoid"),
        ((softmax, softmax), lambda p, y: F.nll_loss((p + 1e-8).log(), y), "softmax to the result of softmax"),
        ((softmax, softmax), F.cross_entropy, ""),
    ],
)
def test_two_functions_in_a_row_inside_of_the_model(functions, loss, pair):
    (found,) = tw.diagnose(train(Ends(*functions), classes(), loss))
    assert found.rule == "double_softmax"
    assert pair in found.cause
    assert found.sites[0].endswith(("softmax", "sigmoid"))


class Attention(nn.Module):
    """Attention, whose softmax lies before the one of the output, and a score for every position."""

    def __init__(self, *, points=False):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 5)
        self.points = points

    def forward(self, x):
        scores = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(8)
        if self.points:  # as a pointer network
            return F.log_softmax(scores[:, 0], dim=-1)
        return F.log_softmax(self.head((scores.softmax(-1) @ self.v(x)).mean(1)), dim=-1)


@pytest.mark.parametrize("points", [False, True])
def test_softmax_of_an_attention_is_no_second_softmax(points):
    def draw():
        y = torch.randint(0, 5, (64,))
        return torch.randn(64, 5, 8) + 3 * F.one_hot(y, 5)[:, :, None], y

    trace = train(Attention(points=points), draw, F.nll_loss, rate=1e-2)
    assert roots(trace) == []
    assert trace.loss_graph[1].operation == "LogSoftmaxBackward0"


# Gates of nn.LSTM and nn.GRU


class Sequence(nn.Module):
    """A classifier of the last output of a recurrent layer, or of the last one before the padding."""

    def __init__(self, kind, *, embeds=False, **options):
        super().__init__()
        self.embedding = nn.Embedding(10, 8) if embeds else None
        self.rnn = getattr(nn, kind)(8, 16, batch_first=True, **options)
        self.head = nn.Linear(16 * (2 if self.rnn.bidirectional else 1), 4)

    def forward(self, x):
        if self.embedding is not None:
            x = self.embedding(x)
        return self.head(self.rnn(x)[0][:, -1])


def sequences():
    y = torch.randint(0, 4, (32,))
    return torch.randn(32, 12, 8) + 2 * F.one_hot(y, 8)[:, None], y


def tokens():
    y = torch.randint(0, 4, (32,))
    return (y[:, None] + torch.randint(0, 4, (32, 12))) % 10, y


def set_bias(rnn, gate, value):
    with torch.no_grad():
        for name, parameter in rnn.named_parameters():
            if name.startswith("bias_ih"):
                parameter[gate * rnn.hidden_size : (gate + 1) * rnn.hidden_size] = value


@pytest.mark.parametrize(
    ("kind", "gate", "bias", "options"),
    [
        ("LSTM", 0, -50.0, {}),
        ("LSTM", 3, -50.0, {"num_layers": 2}),
        ("LSTM", 0, -50.0, {"embeds": True}),
        ("GRU", 1, 50.0, {"bidirectional": True}),
        ("GRU", 1, 13.0, {}),
    ],
)
def test_a_shut_gate_of_a_fused_layer(kind, gate, bias, options):
    net = Sequence(kind, **options)
    set_bias(net.rnn, gate, bias)
    (found,) = tw.diagnose(train(net, tokens if "embeds" in options else sequences, steps=40))
    assert (found.rule, found.sites, found.since) == ("gates_shut", ("rnn",), (None, 0))
    # Twice or sqrt(3) times the norm per value of the bias vector: the other gates add little to the bias of this one.
    assert found.evidence[1].value == pytest.approx(abs(bias), rel=0.1)
    size = found.evidence[0].value / found.evidence[0].expected
    # The state adds up over a few time steps. In float32, 1 - sigmoid(50) of a GRU is 0.
    gate = 1 / (1 + math.exp(abs(bias)))
    assert gate < size < 20 * gate or (kind == "GRU" and bias == 50 and size == 0)
    assert found.cures[0].name == "reset_gate_bias"


def zeros(rnn):
    for parameter in rnn.parameters():
        nn.init.zeros_(parameter)


def candidate_of_zero(rnn):
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter[32:48] = 0


def chrono(rnn):
    """Start the gates for dependencies of a thousand steps (Tallec & Ollivier 2018, eq. 16)."""
    start = (1 + 998 * torch.rand(16)).log()
    zeros_of = [p for name, p in rnn.named_parameters() if "bias" in name]
    with torch.no_grad():
        for parameter in zeros_of:
            parameter.zero_()
        zeros_of[0][:16], zeros_of[0][16:32] = -start, start


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("change", [zeros, candidate_of_zero, chrono, lambda rnn: None])
@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_a_small_output_of_a_fused_layer_for_another_reason(kind, change, scale):
    def draw():
        x, y = sequences()
        return scale * x, y

    net = Sequence(kind)
    change(net.rnn)
    diagnosis = tw.diagnose(train(net, draw, steps=30))
    assert "gates_shut" not in [finding.rule for _, finding in diagnosis.every_finding()]


def test_padding_shuts_no_gate():
    def draw():
        x, y = sequences()
        return torch.cat((x[:, :1], torch.zeros(32, 199, 8)), 1), y

    assert "gates_shut" not in roots(train(Sequence("LSTM"), draw, steps=5))


# A loss that another network computes


def breaking(net, *parts, rate=1e-3, steps=20, at=10, fixed=False, ends=lambda value: -value.mean()):
    """Train `net` through other networks, the last of which gets a NaN before step `at`."""
    optimizer = Adam(net.parameters(), rate)
    for part in parts:
        part.requires_grad_(not fixed)
    with tw.watch(net, optimizer=optimizer) as trace:
        for step in range(steps):
            if step == at:
                with torch.no_grad():
                    next(parts[-1].parameters()).mul_(math.nan)
            optimizer.zero_grad()
            value = net(torch.randn(16, 8))
            for part in parts:
                value = part(value)
            ends(value).backward()
            optimizer.step()
    return trace


def small(*sizes):
    return nn.Sequential(
        nn.Linear(sizes[0], sizes[1]), nn.LeakyReLU(0.2), *(nn.Linear(a, b) for a, b in itertools.pairwise(sizes[1:]))
    )


class Weights(nn.Module):
    """A critic of hand-written products."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(20, 32) / 5), nn.Parameter(torch.randn(1, 32) / 5)

    def forward(self, x):
        return torch.tanh(x @ self.first) @ self.second.T


@pytest.mark.parametrize(
    ("other", "fixed"), [(lambda: small(20, 32, 1), False), (lambda: small(20, 32, 1), True), (Weights, False)]
)
def test_a_bad_value_of_another_network(other, fixed):
    (found,) = tw.diagnose(breaking(small(8, 32, 20), other(), fixed=fixed))
    assert (found.rule, found.since) == ("nan_or_inf", (9, 10))
    assert "the other network that computes the loss from the output of module 2 (2 layers" in found.cause
    assert "loss function" not in found.cause
    assert [cure.name for cure in found.cures] == ["watch_other"]


def test_a_bad_value_of_a_loss_that_multiplies_outputs():
    """A contrastive loss is no other network."""
    net = small(8, 32, 20)
    optimizer = Adam(net.parameters(), 1e-3)
    with tw.watch(net, optimizer=optimizer) as trace:
        for step in range(20):
            optimizer.zero_grad()
            y = net(torch.randn(16, 8))
            ((y @ y.T).softmax(1).diagonal() * (0.0 if step >= 10 else 1.0)).log().mean().neg().backward()
            optimizer.step()
    (found,) = tw.diagnose(trace)
    assert (found.rule, found.since) == ("nan_or_inf", (9, 10))
    assert "the loss function, its logarithm" in found.cause


# Layers written as products


class Products(nn.Module):
    """Layers without modules: relu(x @ W), with the weight of the output first among the parameters."""

    def __init__(self, act, sigma, depth=8, *, turned=False, adds=False):
        super().__init__()
        self.out = nn.Parameter(torch.randn(64, 10) * sigma / 8)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(64, 64) * sigma / 8) for _ in range(depth))
        self.act, self.turned, self.adds = act, turned, adds

    def forward(self, x):
        for weight in self.weights:
            after = self.act(x @ (weight.T if self.turned else weight))
            x = x + after if self.adds else after
        return x @ self.out


class Dense(nn.Module):
    def __init__(self, inputs, outputs, act):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))
        self.act = act

    def forward(self, x):
        return self.act(x @ self.weight + self.bias)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("act", [torch.relu, torch.tanh])
def test_products_with_large_weights(act, turned):
    (found,) = tw.diagnose(train(Products(act, 8.0, turned=turned), classes(64), rate=1e-5, steps=5))
    assert (found.rule, found.since) == ("poor_init", (None, 0))
    assert found.evidence[0].value == pytest.approx(8.0, rel=0.05)  # std * sqrt(64)
    assert len(found.sites) == 8
    effects = {effect.rule for effect in found.effects}
    assert "exploding_gradient" in effects
    assert ("exploding_activation" in effects) == (act is torch.relu)


def test_modules_with_a_product_and_large_weights():
    net = nn.Sequential(*(Dense(64, 64, torch.relu) for _ in range(8)), Dense(64, 10, nn.Identity()))
    assert roots(train(net, classes(64), rate=1e-5, steps=5)) == ["poor_init"]


def test_products_with_sigmoids():
    trace = train(Products(torch.sigmoid, 1.0), classes(64), steps=20)
    found = {finding.rule: finding for _, finding in tw.diagnose(trace).every_finding()}["vanishing_gradient"]
    gradient = trace.series("std", "gradient")
    rms = [math.hypot(*(trace.series(q, "gradient").values[row, 0] for q in ("mean", "std"))) for row in (0, 7)]
    assert gradient.names[0] == "sigmoid"
    assert gradient.names[7] == "sigmoid_8"
    assert found.evidence[0].value == pytest.approx(rms[0] / rms[1], rel=1e-6)


class Loop(nn.Module):
    """A recurrence with one weight: its activations in a row are time steps."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Parameter(torch.eye(16)), nn.Parameter(torch.randn(8, 16) / 3)
        self.out = nn.Parameter(torch.randn(16, 4) / 4)

    def forward(self, x):
        state = torch.zeros(len(x), 16)
        for time in range(x.shape[1]):
            state = torch.tanh(x[:, time] @ self.outer + state @ self.inner)
        return state @ self.out


@pytest.mark.parametrize(
    ("net", "draw"),
    [
        (lambda: Products(torch.relu, math.sqrt(2)), classes(64)),
        (lambda: Products(torch.tanh, 1.0), classes(64)),
        (lambda: Products(torch.relu, 0.5, adds=True), classes(64)),
        (Loop, sequences),
    ],
)
def test_healthy_products(net, draw):
    assert roots(train(net(), draw)) == []


# Weights that are too large in spite of norms


def with_weights(net, std, names=("",)):
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(tuple(names)):
            nn.init.normal_(module.weight, std=std)
    return net


def attention_of(net):
    """Return the attention weights of each block for the first batch of `train_gpt`."""
    found = []
    softmax_of = F.softmax

    def spy(scores, dim):
        found.append(softmax_of(scores, dim=dim).detach())
        return softmax_of(scores, dim=dim)

    start = torch.randint(0, 24, (16, 1), generator=torch.Generator().manual_seed(0))
    tokens = (start + torch.arange(17)) % 24
    with mock.patch.object(F, "softmax", spy):
        net(tokens[:, :-1], tokens[:, 1:])
    return found


@pytest.mark.parametrize("width", [32, 64])
def test_weights_of_std_1_in_a_transformer(width):
    net = with_weights(GPT(width=width), 1.0)
    attention = attention_of(copy.deepcopy(net).double())
    trace = train_gpt(net, 5)
    (found,) = tw.diagnose(trace)
    assert (found.rule, found.since, len(found.sites)) == ("poor_init", (None, 0), 13)
    assert found.evidence[0].value == pytest.approx(math.sqrt(width), rel=0.05)
    assert "The first loss is" in found.cause
    peaks = [weights.square().sum(-1).mean().item() for weights in attention]
    assert attention_peaks(Reading(trace)) == pytest.approx(peaks, rel=1e-5)
    assert min(peaks) > 0.75
    assert f"a query's weights is {sorted(peaks)[1]:.2g}" in found.cause


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net,
        lambda net: with_weights(net, 0.25),
        lambda net: with_weights(net, 1.0, ["lm_head"]),
        lambda net: with_weights(with_weights(net, 1.0, ["h.0", "h.1", "h.2"]), 0.02, ["lm_head"]),
    ],
    ids=["usual", "large", "output alone", "loss near chance"],
)
def test_weights_that_norms_or_a_small_output_layer_make_harmless(change):
    assert "poor_init" not in roots(train_gpt(change(GPT()), 5))


# Inputs that are constant


def filled(value, *, draw=None):
    def of_value():
        x, y = (draw or classes())()
        return torch.full_like(x, value), y

    return of_value


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("norm", [False, True])
def test_an_input_that_is_constant(value, norm):
    net = nn.Sequential(nn.Linear(20, 32), *[nn.BatchNorm1d(32)][: int(norm)], nn.ReLU(), nn.Linear(32, 10))
    found = tw.diagnose(train(net, filled(value)))[0]
    assert (found.rule, found.since) == ("constant_output", (None, 0))
    assert f"The input is constant: all its values are {value:g}, at every one of 30 recorded steps" in found.cause
    assert found.cures[0].name == "check_input"
    assert ("weight" in found.evidence[1].text) == (value == 0)


class Started(nn.Module):
    """A decoder whose input is a constant, and whose output depends on noise or on nothing."""

    def __init__(self, noise):
        super().__init__()
        self.hidden, self.head, self.noise = nn.Linear(20, 32), nn.Linear(32, 5), noise

    def forward(self, x):
        return self.head(torch.tanh(self.hidden(x + self.noise * torch.randn(64, 20))))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_constant_input_on_purpose(noise):
    """It fits one target, as a deep image prior does, or has noise of its own."""
    trace = train(Started(noise), lambda: (torch.ones(64, 20), torch.ones(64, 5)), F.mse_loss, rate=1e-2, steps=40)
    assert roots(trace) == []
