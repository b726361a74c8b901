"""Faults inside of a model's own code: two functions in a row, gates of fused layers, weights without a module."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw

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
